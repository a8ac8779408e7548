//go:build !race

package txmap_test

const raceEnabled = false
