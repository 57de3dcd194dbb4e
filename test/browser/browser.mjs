// Drives one Chromium for browser_test.go: a line of JSON in, a line of JSON out, until standard input ends.
//
//   first line  {chromium: path, profile: new folder}
//   then        {open: URL} | {reload: "yes"} | {follow: text of a link} | {script: JavaScript expression} |
//               {shot: file.png, scheme: "light" or "dark", width: pixels} | {fill: selector, with: text, press: key} |
//               {until: JavaScript expression, asked again and again, also of the pages that follow}
//   answers     {url, title, text, status, headers} of the page after it, and what it complained of since it was
//               opened; for a script {value}, with the ranges of files that came; {error} if it failed
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const { chromium } = createRequire(new URL('../interop/package.json', import.meta.url))('playwright-core')
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const { value: first } = await lines.next()
const start = JSON.parse(first)

const context = await chromium.launchPersistentContext(start.profile, {
  executablePath: start.chromium,
  headless: false, // playwright's own would be another browser; --headless=new is this one
  viewport: { width: 900, height: 700 },
  args: [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--hide-scrollbars', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'
  ]
})
context.setDefaultTimeout(60_000)
const page = context.pages()[0] ?? await context.newPage()

let last // the response that made the page
let ranges = []
let complaints = [] // but for statuses, which are part of what is tested
page.on('console', (m) => {
  if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) {
    complaints.push(m.text())
  }
})
page.on('pageerror', (err) => complaints.push(`${err}`))
page.on('response', (r) => {
  if (r.status() === 206) {
    ranges.push(r.headers()['content-range'])
  }
  if (r.request().isNavigationRequest() && r.frame() === page.mainFrame()) {
    last = r
  }
})

async function act (c) {
  if (c.script != null) {
    return { value: await page.evaluate(c.script), ranges }
  }
  if (c.open != null) {
    ranges = []
    complaints = []
    await page.goto(c.open)
  } else if (c.reload != null) {
    await page.reload()
  } else if (c.follow != null) {
    await Promise.all([page.waitForEvent('load'), page.getByRole('link', { name: c.follow, exact: true }).click()])
  } else if (c.fill != null) {
    await page.fill(c.fill, c.with)
    await Promise.all([page.waitForEvent('load'), page.press(c.fill, c.press)])
  } else if (c.until != null) {
    // Not waitForFunction: it asks by eval, which a page's policy may forbid.
    for (const end = Date.now() + 60_000; !await page.evaluate(c.until).catch(() => false); await page.waitForTimeout(20)) {
      if (Date.now() > end) {
        throw new Error(`not in time: ${c.until}`)
      }
    }
    await page.waitForLoadState()
  } else if (c.shot != null) {
    await page.setViewportSize({ width: +c.width, height: 800 })
    await page.emulateMedia({ colorScheme: c.scheme })
    await page.screenshot({ path: c.shot, fullPage: true })
  }
  return { url: page.url(), title: await page.title(), text: await page.innerText('body'), status: last.status(), headers: await last.allHeaders(), complaints }
}

for await (const line of lines) {
  const answer = await act(JSON.parse(line)).catch((err) => ({ error: `${err}` }))
  process.stdout.write(JSON.stringify(answer) + '\n')
}
await context.close()
