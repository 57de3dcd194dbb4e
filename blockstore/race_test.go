//go:build race

package blockstore_test

const raceBuild = true
