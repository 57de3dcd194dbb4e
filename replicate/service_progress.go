package replicate

import (
	"context"
	"math"
	"strconv"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// gauge brings up to date what is told of a fetch in hand; done is as of now. It is called every beatTime.
func (s *Service) gauge(ctx context.Context, j *job, done merkle.Count) {
	s.mu.Lock()
	root, total := j.root, j.total
	if done.Bytes >= j.gauged {
		// Half of it is what came since the last time, half what it was before.
		j.rate = (j.rate + int64(float64(done.Bytes-j.gauged)/beatTime.Seconds())) / 2
	}
	j.gauged = done.Bytes
	s.mu.Unlock()
	if total != 0 || !root.Defined() || done.Blocks == 0 {
		return
	}
	b, err := s.cfg.Blocks.Get(ctx, root)
	if err != nil {
		return // it comes, maybe
	}
	total = declaredBytes(b)
	s.mu.Lock()
	if j.root == root {
		j.total = total
	}
	s.mu.Unlock()
}

// declaredBytes is how large the DAG under a block is, as the block itself says: nobody has
// checked that. -1 where it doesn't say.
func declaredBytes(b blockstore.Block) int64 {
	switch b.Cid().Prefix().Codec {
	case cid.Raw:
		return int64(b.Size())
	case cid.DagProtobuf:
		if _, err := merkle.Links(b); err != nil {
			return -1
		}
		n, err := merkledag.DecodeProtobuf(b.RawData())
		if err != nil {
			return -1
		}
		total := uint64(b.Size())
		for _, l := range n.Links() {
			if l.Size > math.MaxInt64 || total > math.MaxInt64-l.Size {
				return -1
			}
			total += l.Size
		}
		return int64(total)
	}
	return -1
}

// tellProgress adds to a pin's info how far its fetch is, or how the last one went.
func (s *Service) tellProgress(info map[string]string, row PinRow) {
	done, from := row.Done, row.Sources
	s.mu.Lock()
	if j := s.jobs[row.ID]; j != nil && j.done.Blocks > 0 {
		done = j.done
		if row.Status == Pinning || row.Fetching.Defined() {
			tellNumber(info, InfoBytesTotal, max(j.total, 0))
			tellNumber(info, InfoRate, j.rate)
		}
	}
	if sess := s.sessions[row.ID]; sess != nil {
		if text := sess.sources.String(); text != "" {
			from = text
		}
	}
	s.mu.Unlock()
	if done.Blocks > 0 {
		info[InfoBytesDone] = strconv.FormatInt(done.Bytes, 10)
		info[InfoBlocksDone] = strconv.FormatInt(done.Blocks, 10)
	}
	if row.Status == Pinned && !row.Fetching.Defined() {
		tellNumber(info, InfoBytesTotal, done.Bytes)
	}
	if from != "" {
		info[InfoSources] = from
	}
}

func tellNumber(info map[string]string, key string, n int64) {
	if n > 0 {
		info[key] = strconv.FormatInt(n, 10)
	}
}
