// A process with an idle thread; it must end by itself.
import { startThread } from "../../src/runtime/thread.ts";
import type { Served } from "./served.ts";

const { remote } = startThread<Served>(new URL("./served.ts", import.meta.url), {});
console.log(await remote.echo("answered"));
startThread<Served>(new URL("./served.ts", import.meta.url), { throwAtStart: "never asked" });
startThread<Served>(new URL("./served.ts", import.meta.url), {}); // never asked either
await remote.slow("kept alive by the call", 200);
console.log(...(await remote.log()));
