package e2e

// play is what this test binary does when it is started as another process.
func play(role string) int {
	panic("unknown role " + role)
}
