#!/usr/bin/env node
// The command `spantap` of the npm package, where Node starts it: on Windows, where npm makes a command of the first
// line of this file, and where install.js has not put spantap.sh in its place.
"use strict";
const { spawn } = require("child_process");

// By system and processor as Node names them; the first that is installed is started. Windows runs programs for x64
// on arm64.
const FITTING = {
  "linux x64": ["linux-x64"],
  "linux arm64": ["linux-arm64"],
  "darwin arm64": ["darwin-arm64", "darwin-x64"],
  "darwin x64": ["darwin-x64", "darwin-arm64"],
  "win32 x64": ["win32-x64"],
  "win32 arm64": ["win32-x64"],
};
const machine = `${process.platform} ${process.arch}`;

/** Ends with an error and a hint. */
function fail(error, hint) {
  console.error(`error: ${error}\nhint: ${hint}`);
  process.exit(125);
}

/** Returns the path of the program in the first fitting package that is installed. */
function find() {
  const fitting = FITTING[machine];
  if (!fitting) {
    fail(`spantap has no program for this system (${machine})`, "spantap builds from its source code: cargo install --locked spantap");
  }
  const file = process.platform === "win32" ? "spantap.exe" : "spantap";
  for (const name of fitting) {
    try {
      return require.resolve(`@spantap/${name}/bin/${file}`);
    } catch {
      // Not installed.
    }
  }
  fail(
    `npm has not installed the program of spantap for this system (${machine}): @spantap/${fitting[0]}`,
    "npm install [--global] --include=optional spantap; if a lock file of another system leaves the program out, delete it and node_modules first"
  );
}

/** Starts the program as a child that has the standard streams of this process, and ends as it ends. */
function start(program, words) {
  const child = spawn(program, words, { stdio: "inherit", windowsHide: true });
  // A terminal or console sends these to the child, too.
  const fromTerminal = ["SIGINT", "SIGQUIT", "SIGBREAK", "SIGHUP"];
  const inTerminal = process.platform === "win32" || [0, 1, 2].some((stream) => require("tty").isatty(stream));
  const listeners = new Map();
  for (const signal of [...fromTerminal, "SIGTERM", "SIGUSR1", "SIGUSR2"]) {
    const listener = () => inTerminal && fromTerminal.includes(signal) || child.kill(signal);
    try {
      process.on(signal, listener);
      listeners.set(signal, listener);
    } catch {
      // This system does not have it.
    }
  }
  child.on("error", (error) => {
    console.error(`error: ${program} does not start: ${error.message}`);
    process.exit(125);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exit(code);
    }
    listeners.forEach((listener, name) => process.removeListener(name, listener));
    // Node ignores SIGPIPE and goes on after that.
    process.exitCode = 128 + require("os").constants.signals[signal];
    process.kill(process.pid, signal);
  });
}

const program = find();
const words = process.argv.slice(2);
if (process.platform !== "win32" && process.execve) {
  process.execve(program, [program, ...words], process.env);
} else {
  start(program, words);
}
