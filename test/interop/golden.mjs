// Prints merkle/testdata/golden.json: trees, and the CIDs that an implementation other than
// ours (js ipfs-unixfs-importer, the one in Helia) computes for them.
//
//   npm install && node golden.mjs > ../../merkle/testdata/golden.json
//
// A tree is a list of entries, from which the Go test makes the same files:
//   {path, text}    a file of this text
//   {path, size}    a file of this many bytes: zero, but for each MiB's number in its first 4 bytes (little-endian)
//   {path, count}   a folder of this many files page-00000.html…, whose content is "page 0" to "page 9" in turn
//   {path, folder}  an empty folder
// The path "" is the root itself.
import { importer } from 'ipfs-unixfs-importer'
import { BlackHoleBlockstore } from 'blockstore-core'

const MiB = 1024 * 1024
const deep = (n) => Array.from({ length: n }, (_, i) => `level${i}`).join('/')

const trees = [
  { name: 'empty file', entries: [{ path: '', size: 0 }] },
  { name: 'small file', entries: [{ path: '', text: 'hello world' }] },
  { name: 'one byte below a chunk', entries: [{ path: '', size: MiB - 1 }] },
  { name: 'one chunk', entries: [{ path: '', size: MiB }] },
  { name: 'one byte above a chunk', entries: [{ path: '', size: MiB + 1 }] },
  { name: 'seven chunks and a bit', entries: [{ path: '', size: 7 * MiB + 12345 }] },
  { name: '1024 chunks', large: true, entries: [{ path: '', size: 1024 * MiB }] },
  { name: '1024 chunks and a byte', large: true, entries: [{ path: '', size: 1024 * MiB + 1 }] },
  { name: 'empty folder', entries: [{ path: '', folder: true }] },
  { name: 'one file', entries: [{ path: 'index.html', text: '<h1>hello</h1>\n' }] },
  { name: 'empty folder and file in a folder', entries: [{ path: 'empty', folder: true }, { path: 'nothing.txt', size: 0 }] },
  { name: 'deep nesting', entries: [{ path: `${deep(60)}/leaf.txt`, text: 'deep down' }, { path: `${deep(30)}/half.txt`, text: 'half way' }] },
  {
    name: 'odd names',
    entries: [
      'with space.html', '100%.html', '%2e%2e', 'a#b?c&d.html', 'new\nline', 'tab\there', '"quoted"', "it's", 'back\\slash',
      'ünïcödé', 'u\u0308 decomposed', '日本語.html', '🪸', '\u202eright-to-left', '...', '-rf', 'UPPER', 'upper', '~tilde', 'colon:name', ' leading', 'trailing '
    ].map((path) => ({ path, text: path }))
  },
  {
    name: 'dot files of a site',
    entries: [{ path: '.nojekyll', size: 0 }, { path: '.well-known/security.txt', text: 'Contact: mailto:a@b.c\n' }, { path: '.htaccess', text: 'x' }]
  },
  {
    name: 'mixed site',
    entries: [
      { path: 'index.html', text: '<a href="docs/">docs</a>' },
      { path: '404.html', text: 'not here' },
      { path: 'docs/index.html', text: 'docs' },
      { path: 'docs/api/v1/index.html', text: 'api' },
      { path: 'docs/api/v2/index.html', text: 'api' },
      { path: 'assets/video.bin', size: 3 * MiB + 7 },
      { path: 'assets/same.bin', size: 3 * MiB + 7 },
      { path: 'assets/small.bin', size: 10 },
      { path: 'empty', folder: true },
      { path: 'many', count: 40 }
    ]
  },
  { name: 'a folder below the HAMT threshold', entries: [{ path: '', count: 4000 }] },
  { name: 'a folder past the HAMT threshold', entries: [{ path: '', count: 6000 }] },
  { name: 'a sharded folder within a folder', entries: [{ path: 'all', count: 20000 }, { path: 'index.html', text: 'list' }] },
  { name: 'v0: files and folders', profile: 'unixfs-v0-2015', entries: [{ path: 'a.txt', text: 'a' }, { path: 'b/c.bin', size: MiB + 1 }, { path: 'b/empty', size: 0 }] },
  { name: 'v0: a file of more than 174 chunks', profile: 'unixfs-v0-2015', entries: [{ path: '', size: 50 * MiB + 3 }] },
  { name: 'v0: a sharded folder', profile: 'unixfs-v0-2015', entries: [{ path: '', count: 6000 }] }
]

function * filled (size) {
  for (let at = 0; at < size; at += MiB) {
    const chunk = Buffer.alloc(Math.min(MiB, size - at))
    const number = Buffer.alloc(4)
    number.writeUInt32LE(at / MiB)
    number.copy(chunk)
    yield chunk
  }
}

function * candidates (entries, top) {
  const under = (path) => [top, path].filter(Boolean).join('/')
  for (const e of entries) {
    if (e.folder) {
      yield { path: under(e.path) }
    } else if (e.count != null) {
      for (let i = 0; i < e.count; i++) {
        const name = `page-${String(i).padStart(5, '0')}.html`
        yield { path: under([e.path, name].filter(Boolean).join('/')), content: Buffer.from(`page ${i % 10}`) }
      }
    } else {
      yield { path: under(e.path) || 'file', content: e.text != null ? Buffer.from(e.text) : filled(e.size) }
    }
  }
}

async function rootOf (tree) {
  const isFile = tree.entries[0].path === '' && tree.entries[0].count == null && !tree.entries[0].folder
  const top = isFile ? '' : 'root'
  let root
  for await (const e of importer(candidates(tree.entries, top), new BlackHoleBlockstore(), { profile: tree.profile ?? 'unixfs-v1-2025' })) {
    if (isFile || e.path === top) {
      root = e.cid
    }
  }
  return root.toString()
}

const out = []
for (const tree of trees) {
  out.push({ name: tree.name, profile: tree.profile ?? 'unixfs-v1-2025', large: tree.large, root: await rootOf(tree), entries: tree.entries })
}
console.log(JSON.stringify({ by: 'ipfs-unixfs-importer 17.1.1', trees: out }, null, 1))
