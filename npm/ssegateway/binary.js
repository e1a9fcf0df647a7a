import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** Returns the path of the program for this system. */
export function binaryPath() {
  if (process.env.SSEGATEWAY_BINARY) return process.env.SSEGATEWAY_BINARY;
  const name = `@ssegateway/${process.platform}-${process.arch}`;
  const file = process.platform === "win32" ? "ssegateway.exe" : "ssegateway";
  try {
    return require.resolve(`${name}/bin/${file}`);
  } catch {
    throw new Error(
      `ssegateway: there is no program for ${process.platform}-${process.arch}: the package ${name} is not installed. ` +
        "Install again without --omit=optional, on the system that runs it, or set SSEGATEWAY_BINARY to the path of a program that you have built.",
    );
  }
}
