// Runs after npm has installed the package. On Linux and macOS the command is a link to bin/spantap, so a shell script
// can take the place of that file, and Node does not run when spantap starts. Other package managers, and npm on
// Windows, have made a command that starts the file by Node. Without this script spantap starts, too, by Node.
"use strict";
const fs = require("fs");
const path = require("path");

if (process.platform !== "win32" && (process.env.npm_config_user_agent || "").startsWith("npm/")) {
  const file = path.join(__dirname, "bin/spantap");
  try {
    fs.copyFileSync(path.join(__dirname, "bin/spantap.sh"), `${file}.new`);
    fs.chmodSync(`${file}.new`, 0o755);
    fs.renameSync(`${file}.new`, file);
  } catch (error) {
    console.error(`warning: spantap is started by Node: ${error.message}`);
  }
}
