export { CommandError, type CommandOptions, inNamespace, run } from "@tulle/linux";
