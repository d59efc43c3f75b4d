// Package seek finds out from the peers of a node how the epochs of its chain have ended. A node
// that has the decision on a reset leaves its chain with a certificate, which may be that of a
// peer. A node below the decision, or several epochs behind, cannot go on by itself: it checks the
// certificates one by one, takes the state at the newest reset from a peer, and goes on from there.
//
// Nothing that a peer says is believed without its proof. A peer that lies, or is silent, costs
// nothing but the time until the next one is asked.
package seek
