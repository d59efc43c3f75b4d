package chain

// DecideReset decides that the block of the view ends the chain, and that the next epoch begins
// offset heights later. It returns the value of ResetKey that it wrote, or nil if a reset is due
// already. The backends that decide on resets call it: both write the same.
func DecideReset(v View, offset uint64) (decision []byte, err error) {
	_, due, err := v.Get([]byte(ResetKey))
	if err != nil || due {
		return nil, err
	}

	at, err := v.Version()
	if err != nil {
		return nil, err
	}
	now, err := v.BlockTime()
	if err != nil {
		return nil, err
	}

	r := Reset{Epoch: at.Period, Height: at.Height, TimeNs: now.UnixNano(), Offset: offset}
	if decision, err = r.Encode(); err != nil {
		return nil, err
	}
	return decision, v.Put([]byte(ResetKey), decision)
}
