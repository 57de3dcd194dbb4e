// What npm's ipns, the implementation in Helia, says of our records, and records and keys that it makes for us.
// naming/interop_test.go runs it; both ways are JSON, with bytes in base64:
//
//   in   {routingKey, records: [record…], value}
//   out  {checked: [{error} or {value, sequence, ttl, validity}…], selected, made: [record, record without V1], key, name}
//
// selected is the index that the selector takes among our records, key a libp2p protobuf.
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { createIPNSRecord, marshalIPNSRecord, multihashToIPNSRoutingKey, unmarshalIPNSRecord } from 'ipns'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
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

const key = await generateKeyPair('Ed25519')
const made = []
for (const v1Compatible of [true, false]) {
  const record = await createIPNSRecord(key, input.value, 7, 3600 * 1000, { ttlNs: 90_000_000_000n, v1Compatible })
  made.push(base64(marshalIPNSRecord(record)))
}
console.log(JSON.stringify({
  checked,
  selected,
  made,
  key: base64(privateKeyToProtobuf(key)),
  name: base64(multihashToIPNSRoutingKey(key.publicKey.toMultihash()))
}))
