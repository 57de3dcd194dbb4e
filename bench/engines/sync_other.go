//go:build unix && !linux

package engines

import "os"

func dataSync(f *os.File) error { return f.Sync() }

func writeBehind(*os.File, int64, int64) {}
