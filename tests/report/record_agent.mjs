// An agent on the TypeScript SDK for record_logs.py: `node record_agent.mjs NUMBER {"NAME": [COMMAND…]}`.
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.REAL_NODE}/`);
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');

const { REAL_NODE: _, ...env } = process.env;
const started = JSON.parse(process.argv[3]);
const clients = {};
for (const [name, [command, ...args]] of Object.entries(started)) {
    const client = new Client({ name: 'example-editor', version: '0.9.4' });
    client.onerror = () => {}; // Ignores a line that is not a message.
    try {
        await client.connect(new StdioClientTransport({ command, args, env, stderr: 'ignore' }));
        await client.listTools();
        clients[name] = client;
    } catch {}
}

const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));
const call = async (server, tool, args, options) => {
    await pause(60);
    await clients[server].callTool({ name: tool, arguments: args }, undefined, options).catch(() => {});
};
const agents = [
    async () => {
        await call('memory', 'create_entities', { entities: [{ name: 'garden', entityType: 'place', observations: ['has ferns'] }] });
        await call('memory', 'search_nodes', { query: 'garden' });
        await call('memory', 'read_graph', {});
        await call('memory', 'add_observations', { observations: [{ entityName: 'nobody', contents: ['x'] }] });
        await call('memory', 'search_nodes', { query: 'ferns' });
        await call('memory', 'delete_entities', { entityNames: ['garden'] });
    },
    async () => {
        for (const zone of ['Asia/Tokyo', 'Europe/Warsaw', 'Mars/Base']) {
            await call('time', 'convert_time', { source_timezone: 'UTC', time: '16:30', target_timezone: zone });
        }
        await call('time', 'get_current_time', { timezone: 'Europe/Warsaw' });
        await call('everything', 'echo', { message: 'hello' });
        // First the client's time limit cancels a call, then the user does.
        await call('everything', 'trigger-long-running-operation', { duration: 30, steps: 3 }, { timeout: 1500 });
        const stop = new AbortController();
        setTimeout(() => stop.abort('the user pressed escape'), 800);
        await call('everything', 'trigger-long-running-operation', { duration: 30, steps: 3 }, { signal: stop.signal });
        await call('everything', 'get-tiny-image', {});
    },
    async () => {},
];
await agents[Number(process.argv[2])]();
await Promise.all(Object.values(clients).map((client) => client.close()));
