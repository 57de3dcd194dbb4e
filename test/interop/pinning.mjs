// Pins at a host with the pinning service client that npm has, which was generated from the specification and serves
// desktop applications. pinning_test.go runs it; both ways are JSON:
//
//   in   {url, token, roots: [CID, CID], origin: multiaddr, absent: [CID…]}
//   out  {added, pinned, replaced, list, gone, filters: {what: count…}, pages: [[name…]…], errors: {what: [status, reason]…}}
//
// added, pinned and replaced are pins as the client reads them; gone tells that the replaced pin and the deleted one are not
// there any more. absent is pinned in one go, for the pages; nobody has it.
import { Configuration, RemotePinningServiceClient, Status, TextMatchingStrategy } from '@ipfs-shipyard/pinning-service-client'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

const input = JSON.parse(await text(process.stdin))
const as = (accessToken) => new RemotePinningServiceClient(new Configuration({ endpointUrl: input.url, accessToken }))
const client = as(input.token)
const out = { filters: {}, pages: [], errors: {} }

async function until (requestid, status) {
  for (;;) {
    const pin = await client.pinsRequestidGet({ requestid })
    if (pin.status === status) {
      return pin
    }
    if (pin.status === Status.Failed) {
      throw new Error(`failed: ${JSON.stringify(pin.info)}`)
    }
    await sleep(50)
  }
}

async function refused (call) {
  try {
    return [200, JSON.stringify(await call())]
  } catch (answer) { // the client throws what came, as it is
    if (!(answer instanceof Response)) {
      throw answer
    }
    const { error } = await answer.json()
    return [answer.status, error.reason, error.details]
  }
}

const [v1, v2] = input.roots
out.added = await client.pinsPost({ pin: { cid: v1, name: 'Site One', origins: [input.origin], meta: { app: 'npm' } } })
out.pinned = await until(out.added.requestid, Status.Pinned)
for (const [what, request] of Object.entries({
  name: { name: 'Site One' },
  'name in capitals': { name: 'SITE ONE' },
  'name, any case': { name: 'SITE ONE', match: TextMatchingStrategy.Iexact },
  'part of the name': { name: 'e One', match: TextMatchingStrategy.Partial },
  'part, any case': { name: 'TE ON', match: TextMatchingStrategy.Ipartial },
  cid: { cid: [v2, v1] },
  'another cid': { cid: [v2] },
  meta: { meta: { app: 'npm' } },
  'other meta': { meta: { app: 'helia' } },
  after: { after: new Date(0) },
  before: { before: new Date(0) },
  failed: { status: [Status.Failed] }
})) {
  const { count, results } = await client.pinsGet(request)
  out.filters[what] = results.length === count ? count : -1
}
out.replaced = await client.pinsRequestidPost({ requestid: out.added.requestid, pin: { cid: v2, name: 'Site Two' } })
await until(out.replaced.requestid, Status.Pinned)
out.gone = [await refused(() => client.pinsRequestidGet({ requestid: out.added.requestid }))]
out.list = (await client.pinsGet()).results
await client.pinsRequestidDelete({ requestid: out.replaced.requestid })
out.gone.push(await refused(() => client.pinsRequestidDelete({ requestid: out.replaced.requestid })))

// All at once; the client knows times to the millisecond only.
await Promise.all(input.absent.map((cid, i) => client.pinsPost({ pin: { cid, name: `absent ${i}` } })))
for (let before; ;) {
  const { count, results } = await client.pinsGet({ status: [Status.Queued, Status.Pinning], limit: 7, before })
  out.pages.push(results.map((r) => r.pin.name))
  if (results.length === count) {
    break
  }
  before = results.at(-1).created
}

out.errors['no token'] = await refused(() => as('').pinsGet())
out.errors['a wrong token'] = await refused(() => as('hft_nobody').pinsPost({ pin: { cid: v1 } }))
out.errors['no CID'] = await refused(() => client.pinsPost({ pin: { cid: 'nothing' } }))
out.errors['limit 0'] = await refused(() => client.pinsGet({ limit: 0 }))
out.errors['limit 1001'] = await refused(() => client.pinsGet({ limit: 1001 }))
console.log(JSON.stringify(out))
