#!/usr/bin/env node
import { useCompileCache } from "./compile-cache.ts";

/** The command `tulle`. Everything else is imported after the compile cache is in use: it takes half of the start away. */
useCompileCache(process.env);
const { main } = await import("./cli.ts");
await main(process.argv.slice(2));
