package streams

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/coppice-go/coppice/engines/streams/codec"
)

// AppendJSON appends the JSON form of an event, one line without an end. Names are those of the
// protobuf form. Bytes that are text (UTF-8 without NUL) stand as text under the field's name;
// others stand in base64 under the name with "64" after it. Hashes, ids and addresses are
// hexadecimal, times RFC 3339 in UTC. A field without a value is left out.
func AppendJSON(b []byte, e Event) []byte { return append(AppendJSONFields(b, e), '}') }

// AppendJSONFields does the same as AppendJSON and leaves out the closing brace, so that a sink can
// add fields of its own.
func AppendJSONFields(b []byte, e Event) []byte {
	w := jsonWriter{b}
	w.b = append(w.b, `{"v":1,"chain":`...)
	w.text(e.ChainID)
	w.num("period", e.Period)
	w.num("height", e.Height)
	w.num("index", e.Index)
	w.str("kind", string(e.Body.Kind()))
	if !e.Part.Whole() {
		w.num("part", uint64(e.Part.Number))
		w.num("parts", uint64(e.Part.Of))
		w.num("size", e.Part.Size)
		w.hex("sha256", e.Part.SHA256[:])
	}
	w.body(e.Body)

	return w.b
}

type jsonWriter struct{ b []byte }

func (w *jsonWriter) name(name string) {
	w.b = append(w.b, ',', '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *jsonWriter) num(name string, n uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *jsonWriter) int(name string, n int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *jsonWriter) flag(name string, v bool) {
	if v {
		w.name(name)
		w.b = append(w.b, "true"...)
	}
}

func (w *jsonWriter) str(name, s string) {
	if s != "" {
		w.name(name)
		w.text(s)
	}
}

func (w *jsonWriter) hex(name string, v []byte) {
	if len(v) > 0 {
		w.name(name)
		w.b = append(w.b, '"')
		w.b = hex.AppendEncode(w.b, v)
		w.b = append(w.b, '"')
	}
}

func (w *jsonWriter) time(name string, t time.Time) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

// bytes writes v as text if it is text, else in base64. Empty bytes are left out, unless must is
// set.
func (w *jsonWriter) bytes(name string, v []byte, must bool) {
	if len(v) == 0 && !must {
		return
	}
	if isText(v) {
		w.name(name)
		w.text(string(v))
		return
	}
	w.name(name + "64")
	w.b = append(w.b, '"')
	w.b = base64.StdEncoding.AppendEncode(w.b, v)
	w.b = append(w.b, '"')
}

// isText reports whether JSON and other systems have v as text: UTF-8 without NUL.
func isText(v []byte) bool {
	for _, c := range v {
		if c == 0 {
			return false
		}
	}
	return utf8.Valid(v)
}

// text appends a JSON string. What is not UTF-8 becomes U+FFFD; callers that must not lose it use
// bytes.
func (w *jsonWriter) text(s string) { w.b = codec.AppendText(w.b, s) }

func (w *jsonWriter) position(name string, p *Position) {
	if p == nil {
		return
	}
	w.name(name)
	w.b = append(w.b, `{"period":`...)
	w.b = strconv.AppendUint(w.b, p.Period, 10)
	w.num("height", p.Height)
	w.b = append(w.b, '}')
}

// raw writes JSON that a codec has made.
func (w *jsonWriter) raw(name string, v []byte) {
	if v != nil {
		w.name(name)
		w.b = append(w.b, v...)
	}
}

// value writes something that is rare by encoding/json.
func (w *jsonWriter) value(name string, v any) {
	w.name(name)
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types come here
	}
	w.b = append(w.b, text...)
}

func (w *jsonWriter) body(body Body) {
	switch v := body.(type) {
	case *Reset:
		w.str("old_chain", v.OldChainID)
		w.num("old_period", v.OldPeriod)
		w.num("last_height", v.LastHeight)
		w.hex("last_app_hash", v.LastAppHash)
		w.num("reset_height", v.ResetHeight)
		w.hex("state_root", v.StateRoot)

	case *Started:
		w.num("initial_height", v.InitialHeight)
		w.time("time", v.GenesisTime)
		w.hex("app_hash", v.AppHash)
		w.hex("app_state_sha256", v.AppStateSHA256)

	case *Block:
		w.block(v)

	case *Tx:
		w.num("tx", uint64(v.Number))
		w.hex("id", v.ID)
		w.str("backend", v.Backend)
		w.num("tx_size", v.Size)
		w.bytes("body", v.Body, v.HasBody)

	case *Change:
		w.num("tx", uint64(v.Tx))
		w.bytes("key", v.Key, true)
		w.flag("delete", v.Delete)
		w.bytes("value", v.Value, !v.Delete)
		w.str("before_state", string(v.Before.State))
		w.bytes("before", v.Before.Value, v.Before.State == BeforeValue)
		w.raw("decoded", v.Decoded)

	case *Emitted:
		w.num("tx", uint64(v.Tx))
		w.str("type", v.Type)
		w.attributes(v.Attributes)

	case *Outcome:
		w.num("tx", uint64(v.Tx))
		w.int("code", int64(v.Code))
		w.bytes("data", v.Data, false)
		w.str("log", v.Log)

	case *Validator:
		w.str("key_type", v.KeyType)
		w.hex("pub_key", v.PubKey)
		w.int("power", v.Power)

	case *Key:
		w.bytes("key", v.Key, true)
		w.bytes("value", v.Value, true)
		w.raw("decoded", v.Decoded)

	case *Gap:
		w.position("after", v.After)
		w.str("reason", v.Reason)

	case *Rejected:
		w.str("was", string(v.Was))
		w.bytes("key", v.Key, false)
		w.str("error", v.Err)

	case *Redefined:
		w.str("from", v.From)
		w.str("to", v.To)

	case *Moved:
		w.str("to", v.To)

	case *End:
		w.hex("block_hash", v.BlockHash)
		w.hex("app_hash", v.AppHash)
		w.num("events", v.Events)
		w.num("delivered", v.Delivered)
		w.hex("digest", v.Digest)
	}
}

func (w *jsonWriter) block(v *Block) {
	w.hex("hash", v.Hash)
	w.time("time", v.Time)
	w.hex("proposer", v.Proposer)
	w.num("txs", v.Txs)
	if len(v.Votes) > 0 {
		w.value("votes", votesJSON(v.Votes))
	}
	if len(v.Misbehavior) > 0 {
		w.value("misbehavior", misbehaviorJSON(v.Misbehavior))
	}
}

// attributes writes the attributes as a list of pairs, since names may repeat.
func (w *jsonWriter) attributes(list []Attribute) {
	w.name("attributes")
	w.b = append(w.b, '[')
	for i, a := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '[')
		w.text(a.Key)
		w.b = append(w.b, ',')
		w.text(a.Value)
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, ']')
}
