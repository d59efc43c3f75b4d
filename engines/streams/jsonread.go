package streams

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// hexBytes are bytes that JSON has in hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}

type voteJSON struct {
	Validator hexBytes `json:"validator"`
	Power     int64    `json:"power"`
	Flag      string   `json:"flag"`
}

type faultJSON struct {
	Type       string    `json:"type"`
	Validator  hexBytes  `json:"validator"`
	Power      int64     `json:"power"`
	Height     uint64    `json:"height"`
	Time       time.Time `json:"time"`
	TotalPower int64     `json:"total_power"`
}

func votesJSON(votes []Vote) []voteJSON {
	list := make([]voteJSON, len(votes))
	for i, v := range votes {
		list[i] = voteJSON{v.Validator, v.Power, v.Flag}
	}
	return list
}

func misbehaviorJSON(faults []Misbehavior) []faultJSON {
	list := make([]faultJSON, len(faults))
	for i, f := range faults {
		list[i] = faultJSON{f.Type, f.Validator, f.Power, f.Height, f.Time.UTC(), f.TotalPower}
	}
	return list
}

// eventJSON has every field of the JSON form.
type eventJSON struct {
	V      uint32 `json:"v"`
	Chain  string `json:"chain"`
	Period uint64 `json:"period"`
	Height uint64 `json:"height"`
	Index  uint64 `json:"index"`
	Kind   Kind   `json:"kind"`

	Part   uint32   `json:"part"`
	Parts  uint32   `json:"parts"`
	Size   uint64   `json:"size"`
	SHA256 hexBytes `json:"sha256"`

	OldChain    string   `json:"old_chain"`
	OldPeriod   uint64   `json:"old_period"`
	LastHeight  uint64   `json:"last_height"`
	LastAppHash hexBytes `json:"last_app_hash"`
	ResetHeight uint64   `json:"reset_height"`
	StateRoot   hexBytes `json:"state_root"`

	InitialHeight  uint64    `json:"initial_height"`
	Time           time.Time `json:"time"`
	AppHash        hexBytes  `json:"app_hash"`
	AppStateSHA256 hexBytes  `json:"app_state_sha256"`

	Hash        hexBytes    `json:"hash"`
	Proposer    hexBytes    `json:"proposer"`
	Txs         uint64      `json:"txs"`
	Votes       []voteJSON  `json:"votes"`
	Misbehavior []faultJSON `json:"misbehavior"`

	Tx      uint32   `json:"tx"`
	ID      hexBytes `json:"id"`
	Backend string   `json:"backend"`
	TxSize  uint64   `json:"tx_size"`
	Body    *string  `json:"body"`
	Body64  *string  `json:"body64"`

	Key         *string         `json:"key"`
	Key64       *string         `json:"key64"`
	Delete      bool            `json:"delete"`
	Value       *string         `json:"value"`
	Value64     *string         `json:"value64"`
	BeforeState BeforeState     `json:"before_state"`
	Before      *string         `json:"before"`
	Before64    *string         `json:"before64"`
	Decoded     json.RawMessage `json:"decoded"`

	Type       string      `json:"type"`
	Attributes [][2]string `json:"attributes"`

	Code   int32   `json:"code"`
	Data   *string `json:"data"`
	Data64 *string `json:"data64"`
	Log    string  `json:"log"`

	KeyType string   `json:"key_type"`
	PubKey  hexBytes `json:"pub_key"`
	Power   int64    `json:"power"`

	After  *Position `json:"after"`
	Reason string    `json:"reason"`
	Was    Kind      `json:"was"`
	Error  string    `json:"error"`
	From   string    `json:"from"`
	To     string    `json:"to"`

	BlockHash hexBytes `json:"block_hash"`
	Events    uint64   `json:"events"`
	Delivered uint64   `json:"delivered"`
	Digest    hexBytes `json:"digest"`
}

// ParseJSON returns the event whose JSON form is b. Fields that it does not know are ignored, and a
// kind that it does not know becomes Unknown.
func ParseJSON(b []byte) (Event, error) {
	var j eventJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Event{}, fmt.Errorf("event in JSON: %w", err)
	}
	if j.V == 0 || j.Kind == "" {
		return Event{}, fmt.Errorf("event in JSON: no version or no kind in %.80q", b)
	}

	e := Event{Place: Place{ChainID: j.Chain, Position: Position{j.Period, j.Height}, Index: j.Index},
		Part: Part{Number: j.Part, Of: j.Parts, Size: j.Size}}
	copy(e.Part.SHA256[:], j.SHA256)

	var err error
	e.Body, err = j.body()
	if err != nil {
		return Event{}, fmt.Errorf("%s in JSON: %w", e.Place, err)
	}

	return e, nil
}

// either returns the bytes that stand as text or in base64. It returns nil if neither is there.
func either(text, base *string, err *error) []byte {
	switch {
	case text != nil:
		return []byte(*text)
	case base != nil:
		b, berr := base64.StdEncoding.DecodeString(*base)
		if berr != nil {
			*err = berr
		}
		return b
	}
	return nil
}

func (j *eventJSON) body() (body Body, err error) {
	switch j.Kind {
	case KindReset:
		return &Reset{j.OldChain, j.OldPeriod, j.LastHeight, j.LastAppHash, j.ResetHeight, j.StateRoot}, nil

	case KindStarted:
		return &Started{j.InitialHeight, j.Time, j.AppHash, j.AppStateSHA256}, nil

	case KindBlock:
		return j.block(), nil

	case KindTx:
		return &Tx{Number: j.Tx, ID: j.ID, Backend: j.Backend, Size: j.TxSize,
			HasBody: j.Body != nil || j.Body64 != nil, Body: either(j.Body, j.Body64, &err)}, err

	case KindChange:
		return &Change{Tx: j.Tx, Key: either(j.Key, j.Key64, &err), Delete: j.Delete,
			Value:  either(j.Value, j.Value64, &err),
			Before: Before{j.BeforeState, either(j.Before, j.Before64, &err)}, Decoded: j.Decoded}, err

	case KindEmitted:
		em := &Emitted{Tx: j.Tx, Type: j.Type}
		for _, a := range j.Attributes {
			em.Attributes = append(em.Attributes, Attribute{a[0], a[1]})
		}
		return em, nil

	case KindOutcome:
		return &Outcome{Tx: j.Tx, Code: j.Code, Data: either(j.Data, j.Data64, &err), Log: j.Log}, err

	case KindValidator:
		return &Validator{j.KeyType, j.PubKey, j.Power}, nil

	case KindKey:
		return &Key{either(j.Key, j.Key64, &err), either(j.Value, j.Value64, &err), j.Decoded}, err

	case KindGap:
		return &Gap{j.After, j.Reason}, nil

	case KindRejected:
		return &Rejected{j.Was, either(j.Key, j.Key64, &err), j.Error}, err

	case KindRedefined:
		return &Redefined{j.From, j.To}, nil

	case KindMoved:
		return &Moved{j.To}, nil

	case KindEnd:
		return &End{BlockHash: j.BlockHash, AppHash: j.AppHash, Events: j.Events, Delivered: j.Delivered,
			Digest: j.Digest}, nil
	}

	return &Unknown{string(j.Kind)}, nil
}

func (j *eventJSON) block() *Block {
	b := &Block{Hash: j.Hash, Time: j.Time, Proposer: j.Proposer, Txs: j.Txs}
	for _, v := range j.Votes {
		b.Votes = append(b.Votes, Vote{v.Validator, v.Power, v.Flag})
	}
	for _, f := range j.Misbehavior {
		b.Misbehavior = append(b.Misbehavior,
			Misbehavior{f.Type, f.Validator, f.Power, f.Height, f.Time, f.TotalPower})
	}
	return b
}
