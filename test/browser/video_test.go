package browser

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// clip is half a minute of a test picture and a tone, VP9 and Opus, in 301 chunks:
//
//	ffmpeg -f lavfi -i testsrc=size=96x54:rate=5:duration=30 -f lavfi -i sine=duration=30:sample_rate=8000 \
//		-c:v libvpx-vp9 -b:v 8k -g 10 -c:a libopus -b:a 6k -ac 1 -movflags +faststart clip.mp4
//
//go:embed testdata/clip.mp4
var clip []byte

// spread puts noise before every chunk of an MP4 file, so many bytes, which makes it as
// large as films are: what is played stays the same, and its parts are in different blocks.
func spread(file []byte, noise int) []byte {
	var places []int // where an offset of a chunk stands, in the tables of all tracks
	for at := 0; ; {
		i := bytes.Index(file[at:], []byte("stco"))
		if i < 0 {
			break
		}
		at += i + 4
		n := int(binary.BigEndian.Uint32(file[at+4:]))
		for k := range n {
			places = append(places, at+8+4*k)
		}
	}
	offset := func(place int) int { return int(binary.BigEndian.Uint32(file[place:])) }
	slices.SortFunc(places, func(a, b int) int { return offset(a) - offset(b) })

	mdat := bytes.LastIndex(file, []byte("mdat"))
	out := slices.Clone(file[:mdat+4])
	for i, place := range places {
		end := len(file)
		if i+1 < len(places) {
			end = offset(places[i+1])
		}
		chunk := file[offset(place):end]
		for k := range noise {
			out = append(out, byte((k*k*k)%251+i)) // no two blocks are alike
		}
		binary.BigEndian.PutUint32(out[place:], uint32(len(out)))
		out = append(out, chunk...)
	}
	binary.BigEndian.PutUint32(out[mdat-4:], uint32(len(out)-mdat+4))
	return out
}

func video(t *testing.T, s *studio) {
	film := string(spread(clip, 16<<10))
	s.publish("film", map[string]string{"index.html": `<!doctype html><title>film</title><video src="film.mp4" controls muted preload="metadata"></video>`, "film.mp4": film})
	s.b.open(s.at("film", "/"))
	if v := s.value(`new Promise((done, fail) => { const v = document.querySelector('video')
		v.onseeked = () => { // the picture is there, and isn't all of one colour
			const c = Object.assign(document.createElement('canvas'), { width: v.videoWidth, height: v.videoHeight }).getContext('2d')
			c.drawImage(v, 0, 0)
			const colours = new Set(new Uint32Array(c.getImageData(0, 0, v.videoWidth, v.videoHeight).data.buffer))
			done([Math.round(v.duration), v.currentTime, v.videoWidth, v.videoHeight, colours.size > 8].join())
		}
		v.onerror = () => fail(v.error.message)
		const seek = () => { v.currentTime = 25 }
		v.readyState ? seek() : v.onloadedmetadata = seek })`); v != "30,25,96,54,true" {
		t.Errorf("duration, place, size and picture after a seek are %v", v)
	}
	if v := s.value(`(async () => { const v = document.querySelector('video'); await v.play(); await new Promise((done) => { v.ontimeupdate = () => v.currentTime > 25 && done() }); v.pause(); return v.currentTime > 25 })()`); v != true {
		t.Errorf("played on from there: %v", v)
	}
	far := false
	for _, r := range s.b.do(map[string]string{"script": "0"}).Ranges {
		m := regexp.MustCompile(`^bytes (\d+)-\d+/` + strconv.Itoa(len(film)) + `$`).FindStringSubmatch(r)
		if m == nil {
			t.Errorf("Content-Range %q of a file of %d bytes", r, len(film))
			continue
		}
		from, _ := strconv.Atoi(m[1])
		far = far || from > len(film)/2
	}
	if !far {
		t.Error("no range begins where one seeks to")
	}
}
