/**
 * Runs test/webgpu/*.webgpu.ts on a WebGPU adapter: the machine's own, or where it has none Chromium's software one
 * (SwiftShader). Without an adapter it fails.
 *
 *   npm run test:webgpu [-- --software] [-- FILTER ...]      --software: not the machine's own
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const ICD = "vk_swiftshader_icd.json"; // lies beside a browser's libvk_swiftshader.so and libvulkan.so.1
const playwright = join(homedir(), ".cache", "ms-playwright");
const FOLDERS = [
  ...(process.env.SWIFTSHADER_DIR ? [process.env.SWIFTSHADER_DIR] : []),
  ...["/usr/lib/chromium", "/usr/lib/chromium-browser", "/usr/lib64/chromium-browser", "/opt/google/chrome"],
  ...(existsSync(playwright) ? readdirSync(playwright).map((name) => join(playwright, name, "chrome-linux")) : []),
];

const softwareEnvironment = (folder) => ({
  ...process.env,
  VK_ICD_FILENAMES: join(folder, ICD),
  LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":"),
});

/** Why there is no adapter in this environment; null: there is one. The libraries are found when a process starts, hence another process. */
function fault(env) {
  const { status, stderr } = spawnSync(process.execPath, ["--import", "tsx", "test/webgpu/adapter.ts"], {
    env,
    encoding: "utf8",
  });
  return status === 0 ? null : stderr.trim();
}

function findEnvironment(isSoftware) {
  const faults = [];
  if (!isSoftware) {
    const own = fault(process.env);
    if (own === null) return { name: "the machine's own adapter", env: process.env };
    faults.push(`the machine's own: ${own}`);
  }
  for (const folder of FOLDERS.filter((name) => existsSync(join(name, ICD)))) {
    const env = softwareEnvironment(folder);
    const software = fault(env);
    if (software === null) return { name: `SwiftShader in ${folder}`, env };
    faults.push(`${folder}: ${software}`);
  }
  console.error(
    `test:webgpu: no WebGPU adapter, so nothing was tested. Install a Vulkan driver, or Chromium for its software adapter ` +
      `(Debian: apt-get install chromium-common), or name a folder with ${ICD} in SWIFTSHADER_DIR.\n${faults.join("\n")}`,
  );
  process.exit(1);
}

const filters = process.argv.slice(2).filter((word) => word !== "--software");
const files = readdirSync("test/webgpu")
  .filter((file) => file.endsWith(".webgpu.ts"))
  .filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
  .map((file) => `test/webgpu/${file}`);
if (files.length === 0) {
  console.error(`test:webgpu: no file matches ${filters.join(", ")}`);
  process.exit(2);
}
const { name, env } = findEnvironment(process.argv.includes("--software"));
console.log(`test:webgpu: on ${name}`);
const { status } = spawnSync(process.execPath, ["--import", "tsx", "--test", "--test-concurrency=1", ...files], {
  env,
  stdio: "inherit",
});
process.exit(status ?? 1);
