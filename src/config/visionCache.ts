/** The setting of how much room the outputs of a frozen vision tower may take on disk, for commands that show pictures to one. */
import { number } from "../utils/flags.ts";

export const visionCacheGb = number({
  group: "Model and files",
  shown: "N",
  min: 0,
  default: null,
  defaultText: "10; 0 for towers of fewer than 10 million parameters",
  why: "keep what the frozen vision tower makes of each picture in ~/.cache, at most N GB, for later passes and runs; 0: only in memory",
});
