/** The order of lessons: few icons at first, more when the point's digits are learnt, the full words of the task last. */
import type { Level } from "./lesson.ts";

const MOST_APPS = 20;
const LEARNT = 0.08; // nats a digit
const MEMORY = 0.95;
const MISNAMED = 0.3;

export class Course {
  readonly #totalSteps: number;
  #apps = 4;
  #digitLoss = 2;

  constructor(totalSteps: number) {
    this.#totalSteps = totalSteps;
  }

  /** @param digitLoss mean of the step that was just done */
  note(digitLoss: number): void {
    this.#digitLoss = MEMORY * this.#digitLoss + (1 - MEMORY) * digitLoss;
    if (this.#digitLoss >= LEARNT || this.#apps >= MOST_APPS) return;
    this.#apps += 2;
    this.#digitLoss = Math.max(this.#digitLoss, LEARNT * 1.5); // a new level is judged by its own losses
  }

  levelAt(step: number): Level {
    const isLast = step > 0.8 * this.#totalSteps;
    const fullPrompts = isLast ? 1 : this.#apps >= 8 ? 0.4 : 0.15;
    return { apps: this.#apps, allKinds: this.#apps >= 8, fullPrompts, misnamed: MISNAMED, questions: 3 };
  }

  describe(step: number): string {
    const { apps, fullPrompts } = this.levelAt(step);
    return `2-${apps} icons, ${100 * fullPrompts} % full prompts;`;
  }
}
