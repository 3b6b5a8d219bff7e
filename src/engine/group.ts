/** Several engines as if they were one: micro-batches are dealt to them, and all follow the same sum of gradients. */
import type { Remote } from "../runtime/thread.ts";
import type { StepOutput } from "../train/loss.ts";
import type { NamedArrays, ReplicaState, StepChange } from "../train/replica.ts";
import { InternalError, messageOf, required, UserError } from "../utils/errors.ts";
import { withinTime } from "../utils/time.ts";
import type { Engine } from "./engine.ts";

type RemoteEngine = Remote<Engine>;

/** An engine in a thread of its own. */
export interface Member {
  /** As a message calls its device. */
  readonly name: string;
  readonly remote: RemoteEngine;
  /** Resolves with the reason, should its thread die. */
  readonly died: Promise<Error>;
}

type Call<R> = (engine: RemoteEngine, rank: number) => Promise<R>;

/** What is worth waiting for once a device is lost: the run is to end soon. */
const PATIENCE_MS = 4_000;

/**
 * Each member holds the whole state. Whatever changes it is asked of all at once, so that they stay alike to the last
 * bit; the k-th micro-batch of a step is computed by member k mod n, all else by whichever has least to do.
 *
 * When a member's thread dies, every call under way fails with one UserError that names its device, and so does every later
 * one, save those that read the state: the others have it too.
 */
export class EngineGroup implements RemoteEngine {
  readonly #members: readonly Member[];
  readonly #breakOff: () => void;
  /** Calls under way on each member. */
  readonly #pending: number[];
  readonly #living: Set<Member>;
  /** How each call under way is told that a member is lost. */
  readonly #waiting = new Set<(reason: Error) => void>();
  #lost: Error | null = null;
  /** Whether a change of the state has not come to its end everywhere. */
  #isChanging = false;
  #dealt = 0;

  /** @param breakOff keeps members from waiting for one that is lost */
  constructor(members: readonly Member[], breakOff: () => void) {
    this.#members = members;
    this.#breakOff = breakOff;
    this.#pending = members.map(() => 0);
    this.#living = new Set(members);
    for (const member of members) void member.died.then((reason) => this.#bury(member, reason));
  }

  /** Whether a device was lost. */
  get isBroken(): boolean {
    return this.#lost !== null;
  }

  async lanes(): Promise<number> {
    return this.#members.length;
  }

  async prepareTraining(): Promise<void> {
    await this.#all((engine) => engine.prepareTraining());
  }

  trainableShapes(): Promise<ReadonlyMap<string, readonly number[]>> {
    return this.#read((engine) => engine.trainableShapes());
  }

  async setValues(values: NamedArrays | null): Promise<void> {
    await this.#change((engine, rank) => engine.setValues(rank === 0 ? values : null));
  }

  async setState(state: ReplicaState | null): Promise<void> {
    await this.#change((engine, rank) => engine.setState(rank === 0 ? state : null));
  }

  async state(): Promise<ReplicaState> {
    if (this.#isChanging && this.#lost) throw this.#lost; // some may hold the next step, some the one before
    return this.#read((engine) => engine.state());
  }

  accumulate(...args: Parameters<RemoteEngine["accumulate"]>): Promise<StepOutput> {
    return this.#on(this.#dealt++ % this.#members.length, (engine) => engine.accumulate(...args));
  }

  /** @throws InternalError where the members' gradients were not the same */
  async update(change: StepChange): Promise<number> {
    this.#dealt = 0;
    const norms = await this.#change((engine) => engine.update(change));
    const [first = Number.NaN] = norms;
    if (!norms.every((norm) => Object.is(norm, first)))
      throw new InternalError(`the devices follow different gradients, of norms ${norms.join(", ")}`);
    return first;
  }

  async clearGradients(): Promise<void> {
    this.#dealt = 0;
    await this.#all((engine) => engine.clearGradients());
  }

  /** Of all members together. */
  async gradients(total: number): Promise<NamedArrays> {
    const [first = new Map<string, Float32Array>(), ...others] = await this.#all((engine) => engine.gradients(total));
    const sum = (name: string, values: Float32Array): Float32Array =>
      values.map((value, i) => others.reduce((all, other) => all + (other.get(name)?.[i] ?? Number.NaN), value));
    return new Map([...first].map(([name, values]) => [name, sum(name, values)]));
  }

  evaluateLoss(...args: Parameters<RemoteEngine["evaluateLoss"]>): ReturnType<RemoteEngine["evaluateLoss"]> {
    return this.#any((engine) => engine.evaluateLoss(...args));
  }

  encodePictures(...args: Parameters<RemoteEngine["encodePictures"]>): ReturnType<RemoteEngine["encodePictures"]> {
    return this.#any((engine) => engine.encodePictures(...args));
  }

  generate(...args: Parameters<RemoteEngine["generate"]>): Promise<number[][]> {
    return this.#any((engine) => engine.generate(...args));
  }

  logits(...args: Parameters<RemoteEngine["logits"]>): Promise<Float32Array> {
    return this.#any((engine) => engine.logits(...args));
  }

  async setParameters(name: string, values: NamedArrays | null): Promise<void> {
    await this.#all((engine) => engine.setParameters(name, values));
  }

  /** Of the process, which all members share. */
  peakMemory(): Promise<number> {
    return this.#any((engine) => engine.peakMemory());
  }

  async releaseTraining(): Promise<void> {
    await this.#all((engine) => engine.releaseTraining());
  }

  async release(): Promise<void> {
    await this.#all((engine) => engine.release());
  }

  async #on<R>(rank: number, call: Call<R>): Promise<R> {
    if (this.#lost) throw this.#lost;
    const { remote, name } = required(this.#members[rank], `member ${rank}`);
    this.#pending[rank] = (this.#pending[rank] ?? 0) + 1;
    const { promise: loss, reject: tell } = openPromise();
    this.#waiting.add(tell);
    try {
      return await Promise.race([call(remote, rank), loss]);
    } catch (thrown) {
      throw this.#lost ?? named(thrown, name);
    } finally {
      this.#waiting.delete(tell);
      this.#pending[rank] = (this.#pending[rank] ?? 1) - 1;
    }
  }

  #any<R>(call: Call<R>): Promise<R> {
    return this.#on(this.#pending.indexOf(Math.min(...this.#pending)), call);
  }

  async #all<R>(call: Call<R>): Promise<R[]> {
    return Promise.all(this.#members.map((_, rank) => this.#on(rank, call)));
  }

  /** A member that fails in such a call leaves the others waiting for it, so that it is lost to them. */
  async #change<R>(call: Call<R>): Promise<R[]> {
    if (this.#lost) throw this.#lost;
    this.#isChanging = true;
    try {
      const results = await this.#all(call);
      this.#isChanging = false;
      return results;
    } catch (thrown) {
      this.#break(thrown instanceof Error ? thrown : new InternalError(messageOf(thrown)));
      throw this.#lost;
    }
  }

  /** Asks the first member, or, once one is lost, one that still lives, and that not for long. */
  async #read<R>(call: Call<R>): Promise<R> {
    if (!this.#lost) return this.#on(0, call);
    const lost = this.#lost;
    const [survivor] = this.#living;
    if (!survivor) throw lost;
    return withinTime(call(survivor.remote, this.#members.indexOf(survivor)), PATIENCE_MS, () => {
      throw new InternalError(`${survivor.name} is still computing`);
    });
  }

  #bury(member: Member, reason: Error): void {
    this.#living.delete(member);
    this.#break(lossOf(member, reason));
    for (const tell of this.#waiting) tell(reason);
  }

  #break(reason: Error): void {
    this.#lost ??= reason;
    this.#breakOff();
  }
}

/** A promise that can only be rejected, from outside. */
function openPromise(): { promise: Promise<never>; reject: (reason: Error) => void } {
  let tell: (reason: Error) => void = () => undefined;
  const promise = new Promise<never>((_, reject) => {
    tell = reject;
  });
  return { promise, reject: tell };
}

const lossOf = ({ name }: Member, reason: Error): UserError =>
  new UserError(`${name}: ${messageOf(reason).replace(/^internal: /, "")}`, { cause: reason });

/** The same error with the device in its message, which else could be any of several. A user's mistake is not a device's. */
function named(thrown: unknown, device: string): unknown {
  if (!(thrown instanceof InternalError)) return thrown;
  return new InternalError(`${device}: ${thrown.message.replace(/^internal: /, "")}`, { cause: thrown });
}
