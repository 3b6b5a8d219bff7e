/** What a pickle's opcodes work on: the bytes ahead, a stack of values and a memo. */
import { UserError } from "../../utils/errors.ts";

/** Dicts become objects, tuples arrays. An object that stands in two places of the pickle is one object here, too. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | { [key: string]: PickleValue };

/** Far above what a file of MAX_PICKLE_BYTES needs, far below where memory ends. */
const MAX_VALUES = 8_000_000;
const MAX_MEMO = 2_000_000;

/** What stands on the stack: values, or the mark that opens a list, tuple or dict. */
export const MARK = Symbol("mark");
export type StackItem = PickleValue | typeof MARK;

export interface Machine {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly where: string;
  at: number;
  /** Values put on the stack so far. */
  pushed: number;
  readonly stack: StackItem[];
  readonly memo: Map<number, PickleValue>;
}

export function fault(machine: Machine, message: string): never {
  throw new UserError(`${machine.where}: ${message}`);
}

export function push(machine: Machine, value: StackItem): void {
  if (++machine.pushed > MAX_VALUES)
    fault(machine, `it holds more than ${MAX_VALUES} values; split it into smaller files`);
  machine.stack.push(value);
}

export function pop(machine: Machine): PickleValue {
  const value = machine.stack.pop();
  if (value === undefined || value === MARK)
    fault(machine, `a value is missing at offset ${machine.at}; it is damaged`);
  return value;
}

/** The values above the last mark; the mark goes with them. */
export function popToMark(machine: Machine): PickleValue[] {
  const mark = machine.stack.lastIndexOf(MARK);
  if (mark < 0) fault(machine, `a mark is missing at offset ${machine.at}; it is damaged`);
  const values = machine.stack.splice(mark) as (typeof MARK | PickleValue)[];
  return values.slice(1) as PickleValue[];
}

/** The next `length` bytes. @throws UserError when the file ends before */
export function take(machine: Machine, length: number): Uint8Array {
  const left = machine.bytes.length - machine.at;
  if (length > left)
    fault(machine, `a value of ${length} bytes is announced where ${left} are left; it is cut off or damaged`);
  machine.at += length;
  return machine.bytes.subarray(machine.at - length, machine.at);
}

export function line(machine: Machine): string {
  const end = machine.bytes.indexOf(10, machine.at);
  if (end < 0) fault(machine, "a line does not end; it is cut off");
  const text = Buffer.from(take(machine, end - machine.at)).toString("latin1");
  machine.at++;
  return text;
}

export function unsigned(machine: Machine, width: 1 | 2 | 4): number {
  const at = machine.at;
  take(machine, width);
  if (width === 1) return machine.view.getUint8(at);
  return width === 2 ? machine.view.getUint16(at, true) : machine.view.getUint32(at, true);
}

/** A length of eight bytes: what does not fit in a number does not fit in the file. */
export function long(machine: Machine): number {
  const at = machine.at;
  take(machine, 8);
  return Number(machine.view.getBigUint64(at, true));
}

export function listBelow(machine: Machine): PickleValue[] {
  const list = machine.stack.at(-1);
  if (!Array.isArray(list)) fault(machine, `a list is missing at offset ${machine.at}; it is damaged`);
  return list;
}

export function setItems(machine: Machine, dict: StackItem | undefined, items: readonly PickleValue[]): void {
  if (typeof dict !== "object" || dict === null || Array.isArray(dict) || dict instanceof Uint8Array)
    fault(machine, `a dict is missing at offset ${machine.at}; it is damaged`);
  if (items.length % 2 > 0) fault(machine, `a dict has a key without a value at offset ${machine.at}; it is damaged`);
  for (let i = 0; i < items.length; i += 2) {
    const key = items[i];
    if (typeof key !== "string") fault(machine, `a dict key is ${pythonKind(key)}; expected text`);
    // defined, not assigned: the key "__proto__" is a key like any other
    const value = items[i + 1] as PickleValue;
    Object.defineProperty(dict, key, { value, enumerable: true, writable: true, configurable: true });
  }
}

/** What Python calls the kind of a value. */
function pythonKind(value: PickleValue | undefined): string {
  if (value === null || value === undefined) return "None";
  if (Array.isArray(value)) return "a list or tuple";
  if (value instanceof Uint8Array) return "bytes";
  return { boolean: "a bool", number: "a number", bigint: "an int", string: "a str", object: "a dict" }[
    typeof value as "boolean" | "number" | "bigint" | "string" | "object"
  ];
}

export function store(machine: Machine, index: number): void {
  const value = machine.stack.at(-1);
  if (value === undefined || value === MARK)
    fault(machine, `nothing to remember at offset ${machine.at}; it is damaged`);
  if (machine.memo.size >= MAX_MEMO)
    fault(machine, `it remembers more than ${MAX_MEMO} values; split it into smaller files`);
  machine.memo.set(index, value);
}

export function recall(machine: Machine, index: number): void {
  const value = machine.memo.get(index);
  if (value === undefined) fault(machine, `memo ${index} at offset ${machine.at} was never stored; it is damaged`);
  push(machine, value);
}
