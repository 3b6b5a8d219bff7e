/** Entry of a thread that quantises. */
import { parentPort } from "node:worker_threads";
import { serve } from "../../runtime/thread.ts";
import { required } from "../../utils/errors.ts";
import { Quantiser } from "./quantiser.ts";

serve(required(parentPort, "the parent's port"), () => new Quantiser());
