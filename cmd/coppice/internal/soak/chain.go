package soak

import "fmt"

// place is a height in a period.
type place struct{ period, height uint64 }

// seenHashes holds the app hash that was seen at each place of a chain.
type seenHashes map[place]string

// note remembers an app hash, and reports whether one was known for its place. It returns an error
// if the known one differs.
func (c seenHashes) note(period, height uint64, appHash []byte) (known bool, err error) {
	at := place{period, height}
	was, known := c[at]
	if known && was != string(appHash) {
		return known, fmt.Errorf("the app hash at height %d of period %d is %x, and was %x before", height, period,
			appHash, was)
	}
	c[at] = string(appHash)
	return known, nil
}

// highest returns the last place of the chain that was seen.
func (c seenHashes) highest() place {
	var top place
	for at := range c {
		if at.period > top.period || at.period == top.period && at.height > top.height {
			top = at
		}
	}
	return top
}
