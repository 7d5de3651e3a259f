package main

import (
	"context"
	"net/url"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// 5.0 with paho.golang.
type five struct {
	manager *autopaho.ConnectionManager
	resumes bool
	got     chan message
}

func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), within)
}

func connectFive(id string, kept, will bool) client {
	c := &five{got: make(chan message, 1000)}
	scheme := map[string]string{"tcp": "mqtt", "ws": "ws"}[transport]
	config := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{{Scheme: scheme, Host: "127.0.0.1:" + port, Path: "/mqtt"}},
		KeepAlive:                     30,
		CleanStartOnInitialConnection: !kept,
		OnConnectionUp: func(_ *autopaho.ConnectionManager, connack *paho.Connack) {
			c.resumes = connack.SessionPresent
		},
		OnConnectError: func(err error) { fail("CONNECT:", err) },
		ClientConfig: paho.ClientConfig{
			ClientID: id,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(received paho.PublishReceived) (bool, error) {
					got := received.Packet
					c.got <- message{got.Topic, got.Payload, got.QoS, got.Retain}
					return true, nil
				},
			},
		},
	}
	if kept {
		config.SessionExpiryInterval = 600
	}
	if will {
		config.WillMessage = &paho.WillMessage{Topic: name + "/will", Payload: []byte("gone"), QoS: 1}
	}
	manager, err := autopaho.NewConnection(context.Background(), config)
	check(err, "a connection")
	ctx, cancel := deadline()
	defer cancel()
	check(manager.AwaitConnection(ctx), "CONNECT")
	c.manager = manager
	return c
}

func (c *five) present() bool { return c.resumes }

func (c *five) subscribe(filter string) byte {
	ctx, cancel := deadline()
	defer cancel()
	answer, err := c.manager.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 2}},
	})
	check(err, "SUBSCRIBE")
	return answer.Reasons[0]
}

func (c *five) publish(topic string, payload []byte, qos byte, retain bool) {
	ctx, cancel := deadline()
	defer cancel()
	_, err := c.manager.Publish(ctx, &paho.Publish{Topic: topic, Payload: payload, QoS: qos, Retain: retain})
	check(err, "PUBLISH")
}

func (c *five) incoming() <-chan message { return c.got }

func (c *five) leave() {
	ctx, cancel := deadline()
	defer cancel()
	check(c.manager.Disconnect(ctx), "DISCONNECT")
}
