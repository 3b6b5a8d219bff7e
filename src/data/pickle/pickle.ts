/**
 * Python pickles, protocols 0 to 5, as plain values. This reader knows lists, tuples, dicts, text, bytes, numbers, booleans
 * and None; it refuses every other opcode by name, so nothing in a file can name a class or be executed.
 * Source: CPython's Lib/pickletools.py (opcodes and their arguments) and Lib/pickle.py.
 */
import {
  fault,
  line,
  listBelow,
  long,
  MARK,
  type Machine,
  type PickleValue,
  pop,
  popToMark,
  push,
  recall,
  setItems,
  store,
  take,
  unsigned,
} from "./machine.ts";
import { OPCODES, type OpcodeName } from "./opcodes.ts";
import { decodeUtf8, doubleOf, floatOf, integerOf, pythonString, rawUnicodeEscape, signedInteger } from "./scalars.ts";

export type { PickleValue } from "./machine.ts";

const HIGHEST_PROTOCOL = 5;
export const MAX_PICKLE_BYTES = 128 * 2 ** 20;

/**
 * The value that a pickle holds.
 * @param where names the file, for messages
 * @throws UserError for what is no pickle, is cut off, or holds anything but plain data
 */
export function readPickle(bytes: Uint8Array, where: string): PickleValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const machine: Machine = { bytes, view, where, at: 0, pushed: 0, stack: [], memo: new Map() };
  while (machine.at < bytes.length) {
    const start = machine.at;
    const code = bytes[machine.at++] as number;
    const name = OPCODES.get(code);
    if (name === undefined)
      fault(machine, `byte ${hex(code)} at offset ${start} is no pickle opcode; expected a pickle`);
    if (name === "STOP") return onlyValue(machine);
    const step = STEPS[name];
    if (step === undefined) refuse(machine, name, start);
    step(machine);
  }
  fault(machine, "the pickle ends without its STOP; it is cut off: write the file again");
}

function onlyValue(machine: Machine): PickleValue {
  const value = pop(machine);
  if (machine.stack.length > 0)
    fault(machine, `${machine.stack.length} values are left over at its end; it is damaged`);
  return value;
}

function refuse(machine: Machine, name: OpcodeName, start: number): never {
  fault(
    machine,
    `opcode ${name} at offset ${start} is refused: only lists, tuples, dicts, text, bytes, numbers, booleans and None are read, ` +
      "nothing that names a class or could run; write plain values (convert arrays, sets and objects first)",
  );
}

const hex = (code: number): string => `0x${code.toString(16).padStart(2, "0")}`;

type Step = (machine: Machine) => void;

const text =
  (length: (machine: Machine) => number): Step =>
  (machine) =>
    push(machine, decodeUtf8(take(machine, length(machine)), machine.where));

const bytes =
  (length: (machine: Machine) => number): Step =>
  (machine) =>
    push(machine, take(machine, length(machine)).slice());

const one = (machine: Machine): number => unsigned(machine, 1);
const two = (machine: Machine): number => unsigned(machine, 2);
const four = (machine: Machine): number => unsigned(machine, 4);

const constant =
  (value: PickleValue): Step =>
  (machine) =>
    push(machine, value);

const tuple =
  (length: number): Step =>
  (machine) =>
    push(machine, Array.from({ length }, () => pop(machine)).reverse());

function memoIndex(machine: Machine): number {
  const digits = line(machine);
  if (!/^\d{1,9}$/.test(digits)) fault(machine, `memo index ${JSON.stringify(digits)}; expected a number`);
  return Number(digits);
}

/** INT also writes booleans, as 00 and 01. */
function intLine(machine: Machine): PickleValue {
  const digits = line(machine);
  return digits === "00" ? false : digits === "01" ? true : integerOf(digits, machine.where);
}

/** LONG ends in an L. */
const longLine = (machine: Machine): number | bigint => integerOf(line(machine).replace(/L$/, ""), machine.where);

const longInteger =
  (length: (machine: Machine) => number): Step =>
  (machine) =>
    push(machine, signedInteger(take(machine, length(machine)), machine.where));

function floatBytes(machine: Machine): number {
  const at = machine.at;
  take(machine, 8);
  return doubleOf(machine.view, at);
}

/** What is read, and how. An opcode without an entry is refused. */
const STEPS: Partial<Record<OpcodeName, Step>> = {
  PROTO: (machine) => {
    const protocol = one(machine);
    if (protocol > HIGHEST_PROTOCOL)
      fault(
        machine,
        `protocol ${protocol}; expected 0 to ${HIGHEST_PROTOCOL}: write it with pickle.dump(..., protocol=4)`,
      );
  },
  FRAME: (machine) => {
    const length = long(machine);
    if (length > machine.bytes.length - machine.at)
      fault(machine, `a frame of ${length} bytes where ${machine.bytes.length - machine.at} are left; it is cut off`);
  },
  MARK: (machine) => push(machine, MARK),
  POP: (machine) => {
    if (machine.stack.pop() === undefined) fault(machine, `nothing to drop at offset ${machine.at}; it is damaged`);
  },
  POP_MARK: (machine) => void popToMark(machine),
  DUP: (machine) => {
    const value = pop(machine);
    push(machine, value);
    push(machine, value);
  },
  NONE: constant(null),
  NEWTRUE: constant(true),
  NEWFALSE: constant(false),
  INT: (machine) => push(machine, intLine(machine)),
  LONG: (machine) => push(machine, longLine(machine)),
  BININT: (machine) => push(machine, four(machine) | 0),
  BININT1: (machine) => push(machine, one(machine)),
  BININT2: (machine) => push(machine, two(machine)),
  LONG1: longInteger(one),
  LONG4: longInteger(four),
  FLOAT: (machine) => push(machine, floatOf(line(machine), machine.where)),
  BINFLOAT: (machine) => push(machine, floatBytes(machine)),
  STRING: (machine) => push(machine, pythonString(line(machine), machine.where)),
  BINSTRING: text(four),
  SHORT_BINSTRING: text(one),
  UNICODE: (machine) => push(machine, rawUnicodeEscape(line(machine), machine.where)),
  BINUNICODE: text(four),
  SHORT_BINUNICODE: text(one),
  BINUNICODE8: text(long),
  BINBYTES: bytes(four),
  SHORT_BINBYTES: bytes(one),
  BINBYTES8: bytes(long),
  EMPTY_LIST: (machine) => push(machine, []),
  LIST: (machine) => push(machine, popToMark(machine)),
  APPEND: (machine) => {
    const value = pop(machine);
    listBelow(machine).push(value);
  },
  APPENDS: (machine) => {
    const values = popToMark(machine);
    const list = listBelow(machine);
    for (const value of values) list.push(value);
  },
  EMPTY_TUPLE: (machine) => push(machine, []),
  TUPLE: (machine) => push(machine, popToMark(machine)),
  TUPLE1: tuple(1),
  TUPLE2: tuple(2),
  TUPLE3: tuple(3),
  EMPTY_DICT: (machine) => push(machine, {}),
  DICT: (machine) => {
    const dict = {};
    setItems(machine, dict, popToMark(machine));
    push(machine, dict);
  },
  SETITEM: (machine) => {
    const value = pop(machine);
    const key = pop(machine);
    setItems(machine, machine.stack.at(-1), [key, value]);
  },
  SETITEMS: (machine) => {
    const items = popToMark(machine);
    setItems(machine, machine.stack.at(-1), items);
  },
  PUT: (machine) => store(machine, memoIndex(machine)),
  BINPUT: (machine) => store(machine, one(machine)),
  LONG_BINPUT: (machine) => store(machine, four(machine)),
  MEMOIZE: (machine) => store(machine, machine.memo.size),
  GET: (machine) => recall(machine, memoIndex(machine)),
  BINGET: (machine) => recall(machine, one(machine)),
  LONG_BINGET: (machine) => recall(machine, four(machine)),
};
