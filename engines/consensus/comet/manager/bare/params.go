package bare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// params is the body of POST /params. Keys that it does not name are accepted, because existing
// clients send some.
type params struct {
	Genesis *struct {
		Time   *string         `json:"genesis_time"`
		Chain  *string         `json:"chain_id"`
		Params json.RawMessage `json:"consensus_params"`
	} `json:"genesis_config"`
	Validators *[]member `json:"validators"`
	External   *string   `json:"external_address"`
}

// member is a validator with its address as a peer.
type member struct {
	Hostname *string         `json:"hostname"`
	Port     json.RawMessage `json:"p2p_port"`
	PeerID   *string         `json:"peer_id"`
	Address  *string         `json:"address"`
	PubKey   json.RawMessage `json:"pub_key"`
	Power    json.RawMessage `json:"power"`
	Name     *string         `json:"name"`
}

// SetParams writes the genesis, the persistent peers and the external address that the body of a
// POST /params gives. A body that is not valid changes nothing.
func (h *Home) SetParams(body []byte) error {
	p, err := parseParams(body)
	if err != nil {
		return err
	}

	genesis, err := p.genesis()
	if err != nil {
		return err
	}
	peers, err := p.peers()
	if err != nil {
		return err
	}
	config, err := comethome.EditedConfig(h.dir, comethome.Text("p2p", "persistent_peers", peers),
		comethome.Text("p2p", "external_address", *p.External))
	if err != nil {
		return err
	}

	if err := replace(comethome.GenesisPath(h.dir), genesis); err != nil || config == nil {
		return err
	}

	return comethome.EditConfig(h.dir, comethome.Text("p2p", "persistent_peers", peers),
		comethome.Text("p2p", "external_address", *p.External))
}

func parseParams(body []byte) (p params, err error) {
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("the body is not the JSON that is wanted: %w", err)
	}

	missing := func(name string) error { return fmt.Errorf("%s: the body does not have it", name) }

	switch {
	case p.Genesis == nil:
		return p, missing("genesis_config")
	case p.Genesis.Time == nil:
		return p, missing("genesis_config.genesis_time")
	case p.Genesis.Chain == nil:
		return p, missing("genesis_config.chain_id")
	case empty(p.Genesis.Params):
		return p, missing("genesis_config.consensus_params")
	case p.Validators == nil:
		return p, missing("validators")
	case p.External == nil:
		return p, missing("external_address")
	}

	for i, v := range *p.Validators {
		for _, f := range []struct {
			name string
			none bool
		}{
			{"hostname", v.Hostname == nil}, {"p2p_port", empty(v.Port)}, {"peer_id", v.PeerID == nil},
			{"address", v.Address == nil}, {"pub_key", empty(v.PubKey)}, {"power", empty(v.Power)},
			{"name", v.Name == nil},
		} {
			if f.none {
				return p, missing(fmt.Sprintf("validators[%d].%s", i, f.name))
			}
		}
	}

	return p, nil
}

func empty(v json.RawMessage) bool { return len(v) == 0 || bytes.Equal(v, []byte("null")) }

// genesis returns the genesis file.
func (p params) genesis() ([]byte, error) {
	type validator struct {
		Address string          `json:"address"`
		PubKey  json.RawMessage `json:"pub_key"`
		Power   string          `json:"power"`
		Name    string          `json:"name"`
	}

	set := make([]validator, 0, len(*p.Validators))
	for i, v := range *p.Validators {
		power, err := number(v.Power)
		if err != nil || power <= 0 {
			return nil, fmt.Errorf("validators[%d].power: %s, want a number above 0", i, v.Power)
		}
		twice := func(other validator) bool { return other.Address == *v.Address }
		if slices.ContainsFunc(set, twice) {
			return nil, fmt.Errorf("validators[%d].address: %s is there twice", i, *v.Address)
		}
		set = append(set, validator{*v.Address, v.PubKey, strconv.FormatInt(power, 10), *v.Name})
	}

	validators, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("validators: %w", err)
	}

	text, _, err := finished(map[string]json.RawMessage{
		"genesis_time": quoted(*p.Genesis.Time), "chain_id": quoted(*p.Genesis.Chain), "initial_height": quoted("0"),
		"consensus_params": p.Genesis.Params, "validators": validators, "app_hash": quoted(""),
	})

	return text, err
}

// peers returns the list of the persistent peers. Hosts are written as they are given.
func (p params) peers() (string, error) {
	list := make([]string, 0, len(*p.Validators))
	for i, v := range *p.Validators {
		port, err := number(v.Port)
		if err != nil || port < 0 || port > 1<<16-1 {
			return "", fmt.Errorf("validators[%d].p2p_port: %s, want a port", i, v.Port)
		}
		if strings.ContainsAny(*v.PeerID+*v.Hostname, ",@") {
			return "", fmt.Errorf("validators[%d]: peer_id %q and hostname %q, want no comma and no @ in them", i,
				*v.PeerID, *v.Hostname)
		}
		list = append(list, fmt.Sprintf("%s@%s:%d", *v.PeerID, *v.Hostname, port))
	}
	return strings.Join(list, ","), nil
}

var errNumber = errors.New("not a number")

// number returns a number that is written as one, or as a text.
func number(raw json.RawMessage) (int64, error) {
	text := string(raw)
	if unquoted := ""; json.Unmarshal(raw, &unquoted) == nil {
		text = unquoted
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}
