package config

import (
	"math"
	"strings"
)

// nearest returns the words of among that are at most two letters away from word.
func nearest(word string, among []string) []string {
	var near []string
	for _, w := range among {
		if distance(w, word) <= 2 {
			near = append(near, w)
		}
	}
	return near
}

// didYouMean returns the end of a message that suggests the words in near; empty if there are none.
func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// distance returns how many letters must be inserted, deleted or replaced to turn a into b
// (Levenshtein). If a word is longer than 64 bytes, it returns a very large number.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}

	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1

		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}

	return row[len(b)]
}
