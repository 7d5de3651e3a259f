package main

import (
	"fmt"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// 3.1 and 3.1.1 with paho.mqtt.golang.
type three struct {
	client  mqtt.Client
	resumes bool
	got     chan message
}

func connectThree(id string, kept, will bool) client {
	c := &three{got: make(chan message, 1000)}
	level, err := strconv.ParseUint(version, 10, 8)
	check(err, "the version")
	options := mqtt.NewClientOptions().
		AddBroker(fmt.Sprintf("%s://127.0.0.1:%s/mqtt", transport, port)).
		SetClientID(id).
		SetProtocolVersion(uint(level)).
		SetCleanSession(!kept).
		SetAutoReconnect(false).
		SetConnectTimeout(within).
		SetDefaultPublishHandler(func(_ mqtt.Client, got mqtt.Message) {
			c.got <- message{got.Topic(), got.Payload(), got.Qos(), got.Retained()}
		})
	if will {
		options.SetWill(name+"/will", "gone", 1, false)
	}
	c.client = mqtt.NewClient(options)
	token := c.client.Connect()
	done(token, "CONNECT")
	c.resumes = token.(*mqtt.ConnectToken).SessionPresent()
	return c
}

func done(token mqtt.Token, what string) {
	if !token.WaitTimeout(within) {
		fail(what, "has no answer within", within)
	}
	check(token.Error(), what)
}

func (c *three) present() bool { return c.resumes }

func (c *three) subscribe(filter string) byte {
	token := c.client.Subscribe(filter, 2, nil)
	done(token, "SUBSCRIBE")
	return token.(*mqtt.SubscribeToken).Result()[filter]
}

func (c *three) publish(topic string, payload []byte, qos byte, retain bool) {
	done(c.client.Publish(topic, qos, retain, payload), "PUBLISH")
}

func (c *three) incoming() <-chan message { return c.got }

func (c *three) leave() { c.client.Disconnect(uint(100 * time.Millisecond / time.Millisecond)) }
