// The TypeScript SDK 1.x as a client: `node ts1.mjs SCENARIO`, results as JSON on stdout.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.REAL_NODE}/`);
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');

const scenario = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const transport = new StdioClientTransport({ ...scenario.server, stderr: 'ignore' });
const client = new Client({ name: 'real-ts1', version: '1.0.0' });
await client.connect(transport);
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const results = [];
for (const call of scenario.calls) {
    results.push(await client.callTool({ name: call.tool, arguments: call.arguments })
        .catch((error) => ({ error: { code: error.code, message: error.message } })));
}
await client.close();
console.log(JSON.stringify({ tools, results }));
