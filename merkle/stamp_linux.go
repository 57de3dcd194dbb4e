package merkle

import "syscall"

func (a *stamp) system(sys any) {
	if st, ok := sys.(*syscall.Stat_t); ok {
		a.ctime, a.inode, a.dev = st.Ctim.Nano(), st.Ino, uint64(st.Dev)
	}
}
