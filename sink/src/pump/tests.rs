//! Tests of the pump with a scripted producer.
