package gateway

import (
	gopath "path"
	"strings"
)

// mediaTypes are the types of files by extension: of everything that browsers
// act upon, so that a page works the same at every gateway whatever the
// system's own table says. Sources: the IANA registry, and MDN's list for the web.
var mediaTypes = map[string]string{
	".html": "text/html", ".htm": "text/html", ".xhtml": "application/xhtml+xml", ".css": "text/css",
	".js": "text/javascript", ".mjs": "text/javascript", ".cjs": "text/javascript", ".wasm": "application/wasm",
	".json": "application/json", ".map": "application/json", ".jsonld": "application/ld+json", ".geojson": "application/geo+json",
	".webmanifest": "application/manifest+json", ".importmap": "application/importmap+json",
	".xml": "application/xml", ".xsl": "application/xslt+xml", ".xslt": "application/xslt+xml", ".rss": "application/rss+xml", ".atom": "application/atom+xml",
	".txt": "text/plain", ".text": "text/plain", ".log": "text/plain", ".md": "text/markdown", ".markdown": "text/markdown",
	".csv": "text/csv", ".tsv": "text/tab-separated-values", ".vtt": "text/vtt", ".ics": "text/calendar", ".vcf": "text/vcard",
	".toml": "application/toml", ".yaml": "application/yaml", ".yml": "application/yaml",

	".svg": "image/svg+xml", ".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
	".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".jxl": "image/jxl", ".heic": "image/heic", ".ico": "image/vnd.microsoft.icon",
	".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff",

	".woff2": "font/woff2", ".woff": "font/woff", ".ttf": "font/ttf", ".otf": "font/otf", ".ttc": "font/collection", ".eot": "application/vnd.ms-fontobject",

	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg", ".mov": "video/quicktime", ".mkv": "video/matroska",
	".ts": "video/mp2t", ".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
	".wav": "audio/wav", ".flac": "audio/flac", ".weba": "audio/webm", ".mid": "audio/midi",

	".pdf": "application/pdf", ".epub": "application/epub+zip", ".zip": "application/zip", ".gz": "application/gzip", ".tgz": "application/gzip",
	".br": "application/octet-stream", ".zst": "application/zstd", ".xz": "application/x-xz", ".bz2": "application/x-bzip2", ".7z": "application/x-7z-compressed",
	".tar": "application/x-tar", ".jar": "application/java-archive", ".bin": "application/octet-stream", ".iso": "application/octet-stream",
	".glb": "model/gltf-binary", ".gltf": "model/gltf+json", ".stl": "model/stl", ".obj": "model/obj",
	".atomsvc": "application/atomsvc+xml", ".rtf": "application/rtf", ".swf": "application/vnd.adobe.flash.movie",
	".car": "application/vnd.ipld.car",
}

// contentType is the type of a file by its name (which may be a path), or what
// was found in its content where the name tells nothing. Text is taken for UTF-8,
// in which it is written nowadays; a site with other pages says so in its _headers.
func contentType(name, found string) string {
	t, known := mediaTypes[strings.ToLower(gopath.Ext(name))]
	if !known {
		t = found
	}
	if strings.HasPrefix(t, "text/") && !strings.Contains(t, "charset=") {
		t += "; charset=utf-8"
	}
	return t
}

// compressible tells whether content of a type (parameters are ignored) gets
// smaller: text, and what is written in it. Pictures, films and archives have it behind them.
func compressible(contentType string) bool {
	t, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	t = strings.TrimSpace(t)
	switch {
	case strings.HasPrefix(t, "text/"), strings.HasSuffix(t, "+json"), strings.HasSuffix(t, "+xml"):
		return t != "text/event-stream"
	}
	switch t {
	case "application/json", "application/xml", "application/javascript", "application/wasm", "application/toml", "application/yaml",
		"application/rtf", "application/vnd.apple.mpegurl", "application/vnd.ms-fontobject",
		"font/ttf", "font/otf", "font/collection", "image/bmp", "image/vnd.microsoft.icon", "model/obj", "model/stl":
		return true
	}
	return false
}
