package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// managerFlag defines the flag with the address of a manager.
func managerFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "manager", "", "host:port or URL of the manager's API; --token gives its token")
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
		return usageError(cmd, "want --manager, the address of a manager's API")
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
