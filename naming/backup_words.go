package naming

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
)

// english is BIP-39's list of 2048 words, one a line, sorted.
//
//go:embed backup_english.txt
var english string

var wordList = sync.OnceValue(func() []string { return strings.Fields(english) })

const (
	seedWords = 24      // 256 bits of the seed and 8 of its checksum, 11 a word
	maxWords  = 4 << 10 // bytes of text that are looked at
)

// Words is the backup as 24 words of BIP-39's English list. ErrNoSeed for a key that came from elsewhere, of which there
// are none.
func (b Backup) Words() (string, error) {
	seed, err := b.Seed()
	if err != nil {
		return "", err
	}
	return seed.words(), nil
}

// ParseWords reads the words of a backup, in either case, with any blanks between them. The Backup has no alias.
// ErrInvalidBackup, which tells at most one word of what was given, and only one that is on no list.
func ParseWords(text string) (Backup, error) {
	seed, err := parseSeed(text)
	if err != nil {
		return Backup{}, err
	}
	s, err := seed.signer()
	if err != nil {
		return Backup{}, err
	}
	b := Backup{Name: s.name, seed: seed}
	return b, b.Verify()
}

// words writes seed and checksum as one number in base 2048.
func (s Seed) words() string {
	sum := sha256.Sum256(s[:])
	n := new(big.Int).SetBytes(append(slices.Clone(s[:]), sum[0]))
	base, digit := big.NewInt(int64(len(wordList()))), new(big.Int)
	words := make([]string, seedWords)
	for i := range words {
		n.DivMod(n, base, digit)
		words[seedWords-1-i] = wordList()[digit.Int64()]
	}
	return strings.Join(words, " ")
}

func parseSeed(text string) (s Seed, err error) {
	bad := func(format string, args ...any) (Seed, error) {
		return Seed{}, fmt.Errorf("%w: "+format, append([]any{ErrInvalidBackup}, args...)...)
	}
	if len(text) > maxWords {
		return bad("these are not %d words", seedWords)
	}
	words := strings.Fields(strings.ToLower(text))
	if len(words) != seedWords {
		return bad("it takes %d words, and these are %d", seedWords, len(words))
	}
	n, base := new(big.Int), big.NewInt(int64(len(wordList())))
	for i, w := range words {
		digit, ok := slices.BinarySearch(wordList(), w)
		if !ok {
			return bad("%s", unknownWord(i+1, w))
		}
		n.Add(n.Mul(n, base), big.NewInt(int64(digit)))
	}
	var whole [len(s) + 1]byte
	n.FillBytes(whole[:])
	copy(s[:], whole[:])
	if sum := sha256.Sum256(s[:]); sum[0] != whole[len(s)] || s.IsZero() {
		return bad("all are words of the list, but don't belong together: one is another, or two are in the wrong order")
	}
	return s, nil
}

// unknownWord says which word isn't on the list, and what may be meant. One that is longer than any word is not repeated: it
// may be something else that was pasted here.
func unknownWord(position int, w string) string {
	const longest = 8
	if len(w) > longest+2 {
		return fmt.Sprintf("word %d is not on the list: it is too long", position)
	}
	near, least := "", 3
	for _, known := range wordList() {
		d := distance(w, known)
		// The first four letters of a word are its own.
		if len(w) >= 4 && strings.HasPrefix(known, w[:4]) {
			d = min(d, 1)
		}
		if d < least {
			near, least = known, d
		}
	}
	if near == "" {
		return fmt.Sprintf("word %d, %q, is not on the list", position, w)
	}
	return fmt.Sprintf("word %d, %q, is not on the list; is it %q?", position, w, near)
}

// distance is how many letters have to be put in, left out or changed to make one word of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
