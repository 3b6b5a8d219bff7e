/** Sessions on the small graphs of a training state that stays in a device's memory. */
import type { Graph } from "../graph/graph.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { type Device, targetOf } from "../runtime/device.ts";
import { openSession, type Session } from "../runtime/session.ts";
import { copyGraph, normGraph, sumGraph, updateGraph } from "./deviceGraphs.ts";
import type { Layout } from "./layout.ts";
import type { AdamWSettings } from "./optimizer.ts";

/** `scale` is `sum` for the first micro-batch of a step. */
export interface DeviceSessions {
  readonly upload: Session;
  readonly download: Session;
  readonly scale: Session;
  readonly sum: Session;
  readonly norm: Session;
  readonly update: Session;
}

export async function openDeviceSessions(
  layout: Layout,
  device: Device,
  { settings, hasAverage }: { settings: Pick<AdamWSettings, "betas" | "epsilon">; hasAverage: boolean },
): Promise<DeviceSessions> {
  const open = (graph: Graph, keeps: boolean): Promise<Session> =>
    openSession(encodeOnnx(graph, targetOf(device)), {
      device,
      kept: keeps ? graph.outputs.map(({ name }) => name) : [],
    });
  return {
    upload: await open(copyGraph(layout), true),
    download: await open(copyGraph(layout), false),
    scale: await open(sumGraph(layout, false), true),
    sum: await open(sumGraph(layout, true), true),
    norm: await open(normGraph(layout), false),
    update: await open(updateGraph(layout, settings, hasAverage), true),
  };
}
