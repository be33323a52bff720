#!/usr/bin/env node
import { useCompileCache } from "./compile-cache.js";

/**
 * The command `tulle`. Everything else is imported after the compile cache is in use: it takes half of the start away.
 * Without types, like what it imports first: Node strips those before it can be told of a cache, for some 60 ms.
 */
useCompileCache(process.env);
const { main } = await import("./cli.ts");
await main(process.argv.slice(2));
