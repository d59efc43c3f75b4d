package soak

import "fmt"

// place is a height of a period.
type place struct{ period, height uint64 }

// chain is what was seen of a chain: the app hash at each height.
type seenHashes map[place]string

// note holds an app hash against what was seen at its height before, if anything was.
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

// highest is the last place seen.
func (c seenHashes) highest() place {
	var top place
	for at := range c {
		if at.period > top.period || at.period == top.period && at.height > top.height {
			top = at
		}
	}
	return top
}
