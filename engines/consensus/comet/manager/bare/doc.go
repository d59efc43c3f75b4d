// Package bare rewrites the files of a bare CometBFT home: one that no node of ours owns, with an
// application of somebody else. Genesis, configuration and signing state are replaced whole. After
// a crash each of them has its old content or its new content.
//
// The caller makes sure that no CometBFT runs in the home while a method changes its data or its
// signing state, and that no two methods run at the same time.
package bare
