package rounds

// BackgroundKind says what the start event of a background round does. The kinds stand in the order
// of their priority.
type BackgroundKind int

// The kinds of background rounds.
const (
	// Terminating: the start event ends the service. The current round is left for good.
	Terminating BackgroundKind = iota

	// EverRunning has no app: its ends change the state, and the current round goes on.
	EverRunning

	// Normal: the start event interrupts the current round. When the app reaches a final round, the
	// interrupted one goes on with its votes, and its deadlines moved by the interruption.
	Normal
)

var backgroundKinds = [...]string{"terminating", "ever running", "normal"}

func (k BackgroundKind) String() string { return backgroundKinds[k] }

// Background is a round that collects payloads beside the current round, in every block. It has a
// count of its own, which its payloads carry.
type Background[S any] struct {
	Label string // its payloads carry it
	Kind  BackgroundKind
	Round Round[S]
	On    Event     // of Round: starts App
	App   *Table[S] // nil for EverRunning
}
