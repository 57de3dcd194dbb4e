// What npm's ipns, the implementation in Helia, says of our records, and records and keys that it makes for us.
// naming/interop_test.go runs it; both ways are JSON, with bytes in base64:
//
//   in   {routingKey, records: [record…], value, chain: [{routingKey, record}…]}
//   out  {checked: [{error} or {value, sequence, ttl, validity}…], selected, followed, made: [record…], key, name, other}
//
// records are of one name, selected is the index that the selector takes among them. followed is where one comes by
// the chain that begins at routingKey. made are a record, one without V1, and one that points at the name other;
// key is a libp2p protobuf.
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { createIPNSRecord, marshalIPNSRecord, multihashToIPNSRoutingKey, unmarshalIPNSRecord } from 'ipns'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
import { base36 } from 'multiformats/bases/base36'
import { CID } from 'multiformats/cid'
import { text } from 'node:stream/consumers'

const bytes = (s) => new Uint8Array(Buffer.from(s, 'base64'))
const base64 = (b) => Buffer.from(b).toString('base64')

const input = JSON.parse(await text(process.stdin))
const routingKey = bytes(input.routingKey)
const records = input.records.map(bytes)

const checked = []
for (const raw of records) {
  try {
    await ipnsValidator(routingKey, raw)
    const { value, sequence, ttl, validity } = unmarshalIPNSRecord(raw)
    checked.push({ value, sequence: `${sequence}`, ttl: `${ttl}`, validity })
  } catch (err) {
    checked.push({ error: `${err}` })
  }
}
const valid = records.filter((_, i) => checked[i].error == null)
const selected = records.indexOf(valid[ipnsSelector(routingKey, valid)])

// As every resolver does: the value of a valid record says whose record is next.
const store = new Map((input.chain ?? []).map((c) => [c.routingKey, bytes(c.record)]))
async function follow (at) {
  for (let hops = 0; hops < 32; hops++) {
    const raw = store.get(base64(at))
    if (raw == null) {
      return `no record of ${base64(at)}`
    }
    await ipnsValidator(at, raw)
    const { value } = unmarshalIPNSRecord(raw)
    if (!value.startsWith('/ipns/')) {
      return value
    }
    at = multihashToIPNSRoutingKey(CID.parse(value.slice('/ipns/'.length), base36).multihash)
  }
  return 'a circle'
}
const followed = store.size > 0 ? await follow(routingKey) : ''

const key = await generateKeyPair('Ed25519')
const other = await generateKeyPair('Ed25519')
const made = []
for (const [value, options] of [
  [input.value, {}],
  [input.value, { v1Compatible: false }],
  [other.publicKey.toCID(), {}]
]) {
  const record = await createIPNSRecord(key, value, 7, 3600 * 1000, { ttlNs: 90_000_000_000n, ...options })
  made.push(base64(marshalIPNSRecord(record)))
}
console.log(JSON.stringify({
  checked,
  selected,
  followed,
  made,
  key: base64(privateKeyToProtobuf(key)),
  name: base64(multihashToIPNSRoutingKey(key.publicKey.toMultihash())),
  other: base64(multihashToIPNSRoutingKey(other.publicKey.toMultihash()))
}))
