// Reads a site with Helia, the JavaScript implementation of IPFS: resolves its name through /routing/v1 endpoints, then
// fetches the tree by bitswap over a libp2p connection to one host. Helia checks every block against its CID and every
// record against its name. helia_test.go runs it; both ways are JSON:
//
//   in   {name, unknown: another name, routers: [URL…], host: multiaddr, gateway: URL, into: folder that is made}
//   out  {records: [{value, sequence}…], unknown: error's name, root, blocks, overHTTP: [CID…]}
//
// records is one per router, blocks the number that came by bitswap. Bitswap of Go peers never sends an empty block; as
// in a Helia of the default configuration a trustless gateway stands beside it, here for that one block only.
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { bitswap } from '@helia/block-brokers'
import { delegatedRoutingV1HttpApiClient } from '@helia/delegated-routing-v1-http-api-client'
import { unixfs } from '@helia/unixfs'
import { Helia } from '@helia/utils'
import { identify } from '@libp2p/identify'
import { peerIdFromString } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import { setMaxListeners } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

// libp2p 3 expects it of Node 22, and nothing else that Node 20 lacks.
Promise.withResolvers ??= () => {
  const d = {}
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }))
  return d
}

const EMPTY = CID.parse('bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku')
const input = JSON.parse(await text(process.stdin))
const out = { records: [], blocks: 0, overHTTP: [] }
const signal = AbortSignal.timeout(90_000)
setMaxListeners(Infinity, signal)

// The name: its CID is that of the key, as a peer id has one.
const libp2p = await createLibp2p({
  transports: [tcp()], connectionEncrypters: [noise()], streamMuxers: [yamux()], services: { identify: identify() }
})
const resolve = async (router, name) => {
  const client = delegatedRoutingV1HttpApiClient({ url: router })({ logger: libp2p.logger })
  const { value, sequence } = await client.getIPNS(CID.parse(name), { signal })
  return { value, sequence: Number(sequence) }
}
for (const router of input.routers) {
  out.records.push(await resolve(router, input.name))
}
out.unknown = await resolve(input.routers[0], input.unknown).then(() => 'found', (err) => err.name)
const root = CID.parse(out.records[0].value.replace(/^\/ipfs\//, ''))

const helia = new Helia({
  libp2p,
  blockstore: new MemoryBlockstore(),
  datastore: new MemoryDatastore(),
  routers: [],
  blockBrokers: [bitswap(), () => ({
    name: 'empty-blocks',
    async retrieve (cid, options) {
      if (!cid.equals(EMPTY)) {
        throw new Error('bitswap can have this')
      }
      const resp = await fetch(`${input.gateway}/ipfs/${cid}?format=raw`, { signal })
      if (!resp.ok) {
        throw new Error(`${resp.status} ${await resp.text()}`)
      }
      const block = new Uint8Array(await resp.arrayBuffer())
      await options.validateFn?.(block)
      out.overHTTP.push(`${cid}`)
      return block
    }
  })]
})
await helia.start()
await libp2p.dial(multiaddr(input.host), { signal })

const fs = unixfs(helia)
const onProgress = (e) => { out.blocks += e.type === 'bitswap:block' ? 1 : 0 }
const copy = async (at, to) => {
  if ((await fs.stat(at, { signal, onProgress })).type !== 'directory') {
    await pipeline(fs.cat(at, { signal, onProgress }), createWriteStream(to))
    return
  }
  await mkdir(to)
  const entries = []
  for await (const { cid, name } of fs.ls(at, { signal, onProgress })) {
    entries.push({ cid: CID.decode(cid.bytes), name }) // decoded anew: a package's CID class is its own
  }
  while (entries.length > 0) {
    await Promise.all(entries.splice(0, 64).map((e) => copy(e.cid, join(to, e.name))))
  }
}
await copy(root, input.into)
await helia.stop()
console.log(JSON.stringify(out))
process.exit(0) // whatever still listens or waits
