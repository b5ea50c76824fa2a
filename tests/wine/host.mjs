// A host for Windows: `node host.mjs JOBS RESULTS` does the jobs of a JSON file and writes a line of JSON for each.
//
// Node's own standard streams cannot be Unix pipes under wine, so it reads and writes files.
import { spawn } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [jobs, results] = process.argv.slice(2);
const report = (result) => appendFileSync(results, `${JSON.stringify(result)}\n`);

/** The TypeScript SDK's client: its view of the tools, and the results of calls. */
async function sdk({ modules, server, calls }) {
    const require = createRequire(`${modules}\\`);
    const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
    const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');
    const transport = new StdioClientTransport({ ...server, stderr: 'ignore' });
    const client = new Client({ name: 'wine', version: '1.0.0' });
    await client.connect(transport);
    const { tools } = await client.listTools();
    const answers = [];
    for (const call of calls) {
        answers.push(await client.callTool({ name: call.tool, arguments: call.arguments })
            .catch((error) => ({ error: { code: error.code, message: error.message } })));
    }
    await client.close();
    return { tools, answers };
}

/** A server's process with pipes for all streams. */
function start({ command, args, env, cwd }) {
    const child = spawn(command, args, { env: { ...process.env, ...env }, cwd, windowsHide: true });
    const seen = { stdout: [], stderr: [] };
    const waiting = [];
    const look = () => {
        const text = Buffer.concat(seen.stdout).toString();
        const found = waiting.filter(({ word }) => text.includes(word));
        for (const one of found) {
            waiting.splice(waiting.indexOf(one), 1);
            one.resolve();
        }
    };
    child.stdout.on('data', (data) => { seen.stdout.push(data); look(); });
    child.stderr.on('data', (data) => seen.stderr.push(data));
    // A server that is killed does not read the rest.
    child.stdin.on('error', () => {});
    const end = new Promise((resolve, reject) => {
        child.on('error', reject);
        child.on('close', (code, signal) => resolve({
            code, signal,
            stdout: Buffer.concat(seen.stdout).toString('base64'),
            stderr: Buffer.concat(seen.stderr).toString('base64'),
        }));
    });
    // Waits until `word` is in the output.
    const says = (word) => Promise.race([new Promise((resolve) => { waiting.push({ word, resolve }); look(); }), end]);
    return { child, end, says };
}

/** Sends lines, each after the answer to the one before, and ends the server by `ending`. */
async function raw({ server, lines, ending }) {
    const { child, end, says } = start(server);
    for (const { text, answer } of lines) {
        child.stdin.write(text);
        if (answer) await says(answer);
    }
    if (ending === 'kill') child.kill();
    else child.stdin.end();
    return end;
}

/** Holds a server until this process is killed. */
async function hold({ server, lines }) {
    const { child, end, says } = start(server);
    for (const { text, answer } of lines) {
        child.stdin.write(text);
        if (answer) await says(answer);
    }
    report({ pid: process.pid });
    return end;
}

const kinds = { sdk, raw, hold };
for (const job of JSON.parse(readFileSync(jobs, 'utf8'))) {
    const result = await kinds[job.kind](job).catch((error) => ({ failed: String(error.stack ?? error) }));
    report({ name: job.name, ...result });
}
process.exit(0);
