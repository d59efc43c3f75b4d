package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
)

// managerFlag defines the flag with the address of a manager.
func managerFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "manager", "",
		"host:port or URL of the manager's API, whose token is --token (default: manager.listen of the home)")
}

// resetAnswer is a manager's answer to a reset.
type resetAnswer struct {
	Message string `json:"message"`
	Status  bool   `json:"status"`
}

// reset asks for a reset and prints the answer.
func (a *app) reset(cmd *cobra.Command, address, path string, query url.Values, asJSON bool) error {
	var answer resetAnswer
	if err := a.askManager(cmd, address, path, query, &answer); err != nil {
		return err
	}
	if !answer.Status {
		return errors.New(answer.Message)
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), answer.Message)
	return err
}

// mostOfManager bounds an answer of a manager.
const mostOfManager = 1 << 20

// askManager sends a request to a manager and reads the answer into out. While nothing listens
// there it tries again, for the time of --timeout.
func (a *app) askManager(cmd *cobra.Command, address, path string, query url.Values, out any) error {
	if address == "" {
		own, err := a.ownManager(cmd)
		if err != nil {
			return err
		}
		address = own
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return usageError(cmd, "--manager is %q, want host:port or a URL", address)
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()

	resp, err := a.getWhenListening(cmd.Context(), u.String())
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(io.LimitReader(resp.Body, mostOfManager))
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("manager: status %d: %s", resp.StatusCode, strings.TrimSpace(string(data)))
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("manager: not an answer of a manager: %w", err)
	}

	return nil
}

// ownManager returns the address of the manager's API of the node in the home.
func (a *app) ownManager(cmd *cobra.Command) (string, error) {
	if a.home == "" {
		return "", usageError(cmd, "want --manager, the address of a manager's API, or --home")
	}
	c, err := config.Load(a.home)
	if err != nil {
		return "", err
	}

	if c.Manager.Listen == "" {
		return "", usageError(cmd, "want --manager, the address of a manager's API: the node in %s has none, because "+
			"manager.listen is empty in its coppice.toml", a.home)
	}
	if _, port, err := net.SplitHostPort(c.Manager.Listen); err == nil && port == "0" {
		return "", usageError(cmd, "want --manager: manager.listen is %s, and its port is known only to the node's log",
			c.Manager.Listen)
	}

	return c.Manager.Listen, nil
}

func (a *app) getWhenListening(ctx context.Context, u string) (*http.Response, error) {
	late := time.Now().Add(a.timeout)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()

	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		if err != nil {
			return nil, err
		}
		if a.token != "" {
			req.Header.Set("Authorization", "Bearer "+a.token)
		}

		client := a.http
		if client == nil {
			client = http.DefaultClient
		}
		resp, err := client.Do(req)
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(late) {
			return resp, err
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
