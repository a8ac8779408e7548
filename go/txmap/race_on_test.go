//go:build race

package txmap_test

const raceEnabled = true
