package governance

// Quorum is how much of the power of a validator set is there to vote.
type Quorum struct {
	Present, Total int64
	Absent         []Validator
}

// QuorumOf returns the quorum of a set, of whose members some are present.
func QuorumOf(set []Validator, present func(pubKey []byte) bool) (q Quorum) {
	for _, v := range set {
		q.Total += v.Power
		if present(v.PubKey) {
			q.Present += v.Power
		} else {
			q.Absent = append(q.Absent, v)
		}
	}
	return q
}

// Reached reports whether more than two thirds of the power are present, so that a block can be
// made.
func (q Quorum) Reached() bool { return 3*q.Present > 2*q.Total }
