package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/naming"
)

// Where scripts say passphrases: of keys at rest, and of backups.
const (
	keyPassphraseVar    = "HOLDFAST_PASSPHRASE"
	backupPassphraseVar = "HOLDFAST_BACKUP_PASSPHRASE"
)

// passphraseTries is how often a person may mistype.
const passphraseTries = 3

// nodeKeys is how a node opens keys: with the environment's passphrase, where new ones are made with it, too. It asks nobody: the
// command does, by unlocking.
func (e *env) nodeKeys() naming.KeyringConfig {
	p := e.getenv(keyPassphraseVar)
	return naming.KeyringConfig{
		Dir: filepath.Join(e.home, "keys"), Encrypt: p != "", Work: e.keyWork,
		Passphrase: func(string) (string, error) { return p, nil },
	}
}

// keys opens the keyring for a command: keys are files that any number of processes may use. A person is asked for
// what the environment doesn't say.
func (e *env) keys(ctx context.Context) (*naming.Keyring, error) {
	cfg := e.nodeKeys()
	asked := map[string]string{}
	cfg.Passphrase = func(alias string) (string, error) {
		if p := asked[alias]; p != "" {
			return p, nil
		}
		p, err := e.keyPassphrase(ctx, alias)
		asked[alias] = p
		return p, err
	}
	return cfg.Open()
}

// newKeys opens the keyring for making a key, which is encrypted where that is asked for or the environment says a
// passphrase.
func (e *env) newKeys(ctx context.Context, encrypt bool) (*naming.Keyring, error) {
	if !encrypt || e.getenv(keyPassphraseVar) != "" {
		return e.keys(ctx)
	}
	cfg := e.nodeKeys()
	cfg.Encrypt = true
	p := ""
	cfg.Passphrase = func(string) (_ string, err error) {
		if p == "" {
			p, err = e.newPassphrase(ctx, keyPassphraseVar, "passphrase for the key")
		}
		return p, err
	}
	return cfg.Open()
}

// keyPassphrase is the passphrase of a key that is encrypted.
func (e *env) keyPassphrase(ctx context.Context, alias string) (string, error) {
	if p := e.getenv(keyPassphraseVar); p != "" {
		return p, nil
	}
	if e.person == nil {
		return "", nothingSays(keyPassphraseVar, "the key of "+alias+" is encrypted")
	}
	return e.askSecret(ctx, "Passphrase of the key of "+harmless(alias)+": ")
}

// newPassphrase is one that something is to be encrypted with.
func (e *env) newPassphrase(ctx context.Context, variable, what string) (string, error) {
	if p := e.getenv(variable); p != "" {
		return p, nil
	}
	if e.person == nil {
		return "", nothingSays(variable, "a "+what+" is needed")
	}
	return e.askTwice(ctx, what)
}

func nothingSays(variable, what string) error {
	return usage("%s: set %s, or run this on a terminal", what, variable)
}

// unlocking is a node whose calls open the keys that they meet: the passphrase comes from here, since the node may be another
// process, without a terminal and with another environment.
type unlocking struct {
	control.Caller
	*env
}

func (e *env) unlocking(c control.Caller) control.Caller { return unlocking{c, e} }

// Call is the node's, and done again after a key was opened that it had met.
func (u unlocking) Call(ctx context.Context, method string, params, result any, progress func(json.RawMessage)) error {
	if req, ok := params.(author.PublishRequest); ok {
		if err := u.encryptNew(ctx, u.Caller, req.Alias); err != nil {
			return err
		}
	}
	opened := ""
	for {
		err := u.Caller.Call(ctx, method, params, result, progress)
		alias := lockedKey(err)
		if alias == "" || alias == opened {
			return err
		}
		if err := u.unlock(ctx, u.Caller, alias); err != nil {
			return err
		}
		opened = alias
	}
}

// lockedKey is the alias of the encrypted key that a call has met; "" for any other outcome.
func lockedKey(err error) string {
	var ce *control.Error
	if !errors.As(err, &ce) {
		return ""
	}
	alias, _ := ce.Details["locked"].(string)
	return alias
}

// unlock opens an encrypted key in a node.
func (e *env) unlock(ctx context.Context, c control.Caller, alias string) error {
	for try := 1; ; try++ {
		p, err := e.keyPassphrase(ctx, alias)
		if err != nil {
			return err
		}
		err = c.Call(ctx, "key unlock", node.Passphrase{Alias: alias, Passphrase: p}, nil, nil)
		if lockedKey(err) == "" {
			return err
		}
		if e.getenv(keyPassphraseVar) != "" || try == passphraseTries {
			return err
		}
		e.say(e.err, "%s\n", err)
	}
}

// encryptNew has the key that a publish may make encrypted as it would be here.
func (e *env) encryptNew(ctx context.Context, c control.Caller, alias string) error {
	p := e.getenv(keyPassphraseVar)
	if p == "" {
		return nil
	}
	ring, err := e.keys(ctx)
	if err != nil {
		return err
	}
	if _, err := ring.Info(alias); !errors.Is(err, naming.ErrNoKey) {
		return nil // whatever is wrong with it, the publish will say
	}
	return c.Call(ctx, "key unlock", node.Passphrase{Alias: alias, Passphrase: p}, nil, nil)
}

// unlockFirst opens the key of a site before work on it is handed over, of which nobody will hear.
func (e *env) unlockFirst(ctx context.Context, c control.Caller, alias string) error {
	if err := e.encryptNew(ctx, c, alias); err != nil {
		return err
	}
	ring, err := e.keys(ctx)
	if err != nil {
		return err
	}
	if info, err := ring.Info(alias); err != nil || !info.Encrypted {
		return nil
	}
	return e.unlock(ctx, c, alias)
}

func (e *env) runKeyEncrypt(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	alias := c.Args().First()
	ring, err := e.keys(c.Context)
	if err != nil {
		return err
	}
	was, err := ring.Info(alias)
	if err != nil {
		return err
	}
	if was.Encrypted {
		return usage("the key of %s is encrypted already; for another passphrase `holdfast key decrypt %s` it first", alias, alias)
	}
	p, err := e.newPassphrase(c.Context, keyPassphraseVar, "passphrase for the key")
	if err != nil {
		return err
	}
	if err := ring.Encrypt(alias, p); err != nil {
		return err
	}
	return e.showKey(ring, alias, "encrypted; without the passphrase, or a backup, nobody can publish the site")
}

func (e *env) runKeyDecrypt(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	alias := c.Args().First()
	ring, err := e.keys(c.Context)
	if err != nil {
		return err
	}
	if err := ring.Decrypt(alias); err != nil {
		return err
	}
	return e.showKey(ring, alias, "not encrypted")
}
