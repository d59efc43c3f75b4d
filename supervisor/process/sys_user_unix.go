//go:build unix

package process

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// credential returns as whom the process runs, or nil for this process's own user and groups.
func (s Spec) credential() (*syscall.Credential, error) {
	if s.User == "" && s.Group == "" {
		return nil, nil
	}

	c := &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	var err error
	if s.User != "" {
		err = become(c, s.User)
	}
	if err == nil && s.Group != "" {
		c.Gid, err = groupNumber(s.Group)
	}
	if err != nil {
		return nil, err
	}

	// The groups of a process that is not privileged are its own, and it may keep them.
	c.NoSetGroups = os.Geteuid() != 0 && c.Uid == uint32(os.Geteuid()) && c.Gid == uint32(os.Getegid())

	return c, nil
}

// become sets the user, its primary group and its other groups.
func become(c *syscall.Credential, name string) error {
	u, err := user.Lookup(name)
	if n, isNumber := number(name); err != nil && isNumber {
		if u, err = user.LookupId(name); err != nil { // a user without an entry has a number only
			c.Uid, c.Gid = n, n
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("User %q: %w; expected a name or a number", name, err)
	}

	uid, _ := number(u.Uid)
	gid, _ := number(u.Gid)
	c.Uid, c.Gid = uid, gid

	groups, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("User %q: its groups: %w", name, err)
	}
	for _, g := range groups {
		if n, ok := number(g); ok {
			c.Groups = append(c.Groups, n)
		}
	}

	return nil
}

func groupNumber(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		name = g.Gid
	}
	n, isNumber := number(name)
	if !isNumber {
		return 0, fmt.Errorf("Group %q: %w; expected a name or a number", name, err)
	}
	return n, nil
}

func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}
