// Package ladder decides what a node does about a height that stands still: restart CometBFT, ask
// its peers where they stand, rebuild CometBFT's data if they are ahead in this epoch, or nothing
// if nobody is ahead. It decides only; the driver acts. No step takes back a committed block.
package ladder
