package rounds

// Suspended returns the turn of an agent in the round that the app of a background round has
// interrupted; ok is false if there is no such round, or if Turns would not have the turn in it.
// The agent may say nothing there until the round goes on, with the same count, but its behaviour
// may work on.
func (m Machine[S]) Suspended(st State[S], a Agent) (t Turn[S], ok bool) {
	in := st.Interrupted
	if in == nil {
		return t, false
	}

	place := m.Service.places[in.Round]
	if place.app == nil {
		return t, false
	}
	t = Turn[S]{Name: string(in.Round), Label: place.app.Label, Count: in.Count}
	return t, m.mayAct(&t, place.inner, m.poll(st, in.Ballot, place.rejoins), st, in.Ballot, a)
}
