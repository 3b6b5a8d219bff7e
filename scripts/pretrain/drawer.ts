/** Entry of the thread that draws lessons while the model learns from earlier ones. */
import { parentPort, workerData } from "node:worker_threads";
import { APPS, CONTROLS } from "../../src/embedded/apps.ts";
import { loadIcons } from "../../src/embedded/icons.ts";
import { type Architecture, readArchitecture } from "../../src/model/architecture.ts";
import { loadProcessor } from "../../src/processor.ts";
import { serve } from "../../src/runtime/thread.ts";
import { required } from "../../src/utils/errors.ts";
import { type Classroom, drawLesson, type Level, nameTokensOf } from "./lesson.ts";
import { batchOf, type LessonBatch } from "./lessonBatch.ts";

export interface DrawerOptions {
  readonly modelDir: string;
  readonly seed: number;
  readonly lessons: number;
}

export class Drawer {
  readonly #options: DrawerOptions;
  readonly #architecture: Architecture;
  readonly #room: Promise<Classroom>;

  constructor(options: DrawerOptions) {
    this.#options = options;
    this.#architecture = readArchitecture(options.modelDir);
    const processor = loadProcessor(options.modelDir);
    const nameTokens = nameTokensOf(
      processor,
      [...APPS, ...CONTROLS].map(({ name }) => name),
    );
    this.#room = loadIcons().then((icons) => ({ processor, icons, nameTokens }));
  }

  async draw(step: number, level: Level): Promise<LessonBatch> {
    const { seed, lessons } = this.#options;
    const room = await this.#room;
    const drawn = Array.from({ length: lessons }, (_, i) => drawLesson(room, level, seed, "lesson", step, i));
    return batchOf(drawn, this.#architecture, room.processor);
  }
}

serve(required(parentPort, "the parent's port"), () => new Drawer((workerData as { data: DrawerOptions }).data));
