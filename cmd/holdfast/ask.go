package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// asker asks the person at the terminal.
type asker interface {
	// Line asks for a line of text, which comes back without blanks around it. Its end is an error.
	Line(ctx context.Context, question string) (string, error)
	// Secret asks likewise, and shows nothing of what is typed. Nothing is cut off.
	Secret(ctx context.Context, question string) (string, error)
}

// maxLine bounds what a person types in one line, in bytes.
const maxLine = 4 << 10

// terminalAsker asks on the terminal that the process has.
type terminalAsker struct {
	in  *os.File
	out io.Writer
}

// personAt is whoever sits at in and out; nil where one of them is no terminal, so that there is nobody to ask.
func personAt(in, out *os.File) asker {
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	return terminalAsker{in, out}
}

func (a terminalAsker) Line(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.out, question)
	s, err := a.wait(ctx, func() (string, error) { return readLine(a.in) })
	return strings.TrimSpace(s), err
}

func (a terminalAsker) Secret(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.out, question)
	defer fmt.Fprintln(a.out)
	fd := int(a.in.Fd()) // asked for here: who reads may be left behind when the file is closed
	return a.wait(ctx, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	})
}

// wait reads until ctx ends. Who reads then is left behind, since nothing can wake it; the terminal echoes again.
func (a terminalAsker) wait(ctx context.Context, read func() (string, error)) (string, error) {
	before, err := term.GetState(int(a.in.Fd()))
	if err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := read()
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		return a.text, a.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(int(a.in.Fd()), before))
	}
}

// readLine reads a line byte by byte, so that nothing behind it is taken away from the next question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxLine {
		n, err := r.Read(b[:])
		if n == 1 && b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[:n]...)
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("more than %d bytes in a line", maxLine)
}

// askSecret asks for a secret that isn't empty.
func (e *env) askSecret(ctx context.Context, question string) (string, error) {
	s, err := e.person.Secret(ctx, question)
	if err == nil && s == "" {
		err = usage("nothing was typed")
	}
	return s, err
}

// askTwice asks for a new secret, which has to be typed twice.
func (e *env) askTwice(ctx context.Context, what string) (string, error) {
	for {
		s, err := e.askSecret(ctx, "New "+what+": ")
		if err != nil {
			return "", err
		}
		again, err := e.askSecret(ctx, "The same again: ")
		if err != nil {
			return "", err
		}
		if s == again {
			return s, nil
		}
		e.say(e.err, "the two are not the same\n")
	}
}
